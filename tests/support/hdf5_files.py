"""Writes small HDF5 files: plain ones, and as BigDataViewer and Imaris write them."""

import h5py
import numpy as np


def write(path, **datasets):
    """A file with these datasets, each an array or arguments of `create_dataset`."""
    with h5py.File(path, "w") as file:
        for name, given in datasets.items():
            options = given if isinstance(given, dict) else {"data": given}
            file.create_dataset(name, **options)
    return path


VIEWS = np.random.default_rng(1).integers(0, 65536, (2, 3, 4, 5, 6), dtype="u2")
"""Two setups, three times, z, y, x."""


def bdv(path, stored_as="i2", skip=()):
    """A file as BigDataViewer writes it, with a second level."""
    with h5py.File(path, "w") as file:
        for setup, times in enumerate(VIEWS):
            file[f"s{setup:02}/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 2]])
            file[f"s{setup:02}/subdivisions"] = np.full((2, 3), 16, "i4")
            for time, view in enumerate(times):
                if (setup, time) in skip:
                    continue
                group = f"t{time:05}/s{setup:02}"
                file.create_dataset(
                    f"{group}/0/cells", data=view.view(stored_as), chunks=(2, 3, 4), compression=6
                )
                file.create_dataset(f"{group}/1/cells", data=view[::2, ::2, ::2].view(stored_as))
    return path


AFFINE = "0.5 0 0 10  0 0.25 0 -20  0 0 2 30"


def xml(path, place="a.h5", loader="hdf5", affines=(AFFINE, AFFINE), sizes="0.5 0.25 2.0"):
    """BigDataViewer's XML for such a file; the second setup has no name of its own."""
    setups = "".join(
        f"<ViewSetup><id>{n}</id><name>{name}</name><size>6 5 4</size>"
        f"<voxelSize><unit>µm</unit><size>{sizes}</size></voxelSize></ViewSetup>"
        for n, name in enumerate(("left", "right"))
    )
    views = "".join(
        f'<ViewRegistration timepoint="{time}" setup="{n}"><ViewTransform type="affine">'
        f"<affine>{affine}</affine></ViewTransform></ViewRegistration>"
        for n in (0, 1)
        for time, affine in enumerate(affines)
    )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><SpimData version="0.2">'
        '<BasePath type="relative">.</BasePath><SequenceDescription>'
        f'<ImageLoader format="bdv.{loader}"><{loader} type="relative">{place}</{loader}>'
        f"</ImageLoader><ViewSetups>{setups}</ViewSetups></SequenceDescription>"
        f"<ViewRegistrations>{views}</ViewRegistrations></SpimData>",
        encoding="utf-8",
    )
    return path


FLUOR = np.random.default_rng(2).integers(0, 65536, (2, 3, 5, 6, 7), dtype="u2")
"""Times, channels, z, y, x."""


def imaris(path, skip=(), extents=((1, 4.5), (-3, 0), (0, 10)), seconds=(0, 30)):
    """A file as Imaris writes it: padded to complete chunks, texts in single characters."""

    def put(group, **texts):
        for name, text in texts.items():
            group.attrs[name] = np.array([c.encode() for c in text], "S1")

    with h5py.File(path, "w") as file:
        for time, channel in np.ndindex(2, 3):
            if (time, channel) in skip:
                continue
            group = file.create_group(
                f"DataSet/ResolutionLevel 0/TimePoint {time}/Channel {channel}"
            )
            padded = np.full((8, 8, 8), 9, "u2")
            padded[:5, :6, :7] = FLUOR[time, channel]
            group.create_dataset("Data", data=padded, chunks=(4, 4, 4), compression="gzip")
            put(group, ImageSizeX="7", ImageSizeY="6", ImageSizeZ="5")
        info = file.create_group("DataSetInfo/Image")
        put(info, X="7", Y="6", Z="5", Unit="um", Name="embryo")
        for number, (low, high) in enumerate(extents):
            put(info, **{f"ExtMin{number}": str(low), f"ExtMax{number}": str(high)})
        put(
            file.create_group("DataSetInfo/TimeInfo"),
            **{f"TimePoint{n + 1}": f"2026-11-30 12:00:{s:02}.000" for n, s in enumerate(seconds)},
        )
        for number, (name, color) in enumerate(
            (("DAPI", "0 0 1"), ("GFP", "0 1 0"), ("", "9 9 9"))
        ):
            channel = file.create_group(f"DataSetInfo/Channel {number}")
            put(channel, Name=name, Color=color, ColorRange="10 200.5")
    return path
