"""What is kept beside the target, in `TARGET.build`: plan, ledger, lease, halo strips."""
