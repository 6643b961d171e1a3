"""HDF5: BigDataViewer, Imaris, ilastik, EMD and any dataset of numbers."""
