"""DICOM: single files, multi-frame files, series in a folder, and slides in tiles."""
