"""Files of light microscopes: CZI, LIF, ND2, OIB, OIF and OIR."""
