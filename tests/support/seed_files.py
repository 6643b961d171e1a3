"""Small valid files of every format, from which damaged ones are made.

Each maker gets an empty folder, writes into it, and returns the path to open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.czi_files import JPEG_XR, ZSTD, Block, Czi, czi_bytes
from tests.support.czi_files import xml as czi_xml
from tests.support.dicom import at_position, dataset, enhanced, save, save_compressed, slide
from tests.support.dicom import save_series as save_dicom_series
from tests.support.lif_files import lif_bytes, lof_bytes, plain, write_project
from tests.support.oif_files import oib_of, write_oif
from tests.support.oir_files import oir_bytes
from tests.support.samples import sample
from tests.support.tiffs import (
    Plane,
    ome_document,
    ome_image,
    pages_of,
    uuid,
    write_described,
    write_micromanager_stack,
    write_ndtiff,
)

type Maker = Callable[[Path], Path]

GRAY = pages_of((3, 20, 24))
COLOR = np.random.default_rng(1).integers(0, 255, (48, 40, 3), "u1")
WIDE = pages_of((2, 3, 2, 16, 20))


@dataclass(frozen=True)
class Seed:
    """A valid source.

    Attributes
    ----------
    name
        Of the format and how it is written.
    files
        Bytes of each file, by its path in the folder.
    entry
        Path to open, in the folder.
    """

    name: str
    files: dict[str, bytes]
    entry: str

    def write(self, folder: Path) -> Path:
        """Write the files into ``folder``; the path to open."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / self.entry


def make(name: str, folder: Path) -> Seed:
    """The seed of that name, made in an empty folder."""
    entry = MAKERS[name](folder)
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return Seed(name, files, str(entry.relative_to(folder)))


def _tiff(name: str = "a.tif", array: Any = GRAY, **options: Any) -> Maker:
    def write(folder: Path) -> Path:
        import tifffile

        tifffile.imwrite(folder / name, array, **options)
        return folder / name

    return write


def _pyramid(folder: Path) -> Path:
    import tifffile

    with tifffile.TiffWriter(folder / "a.tif", ome=True) as tif:
        options: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg"}
        tif.write(COLOR, subifds=1, **options)
        tif.write(COLOR[::2, ::2], subfiletype=1, **options)
    return folder / "a.tif"


def _ome_files(folder: Path) -> Path:
    planes = [Plane({"z": n}, 0, f"{n}.ome.tif", uuid(n)) for n in range(3)]
    body = ome_image({"x": 24, "y": 20, "z": 3}, planes)
    for number in range(3):
        path = folder / f"{number}.ome.tif"
        write_described(path, GRAY[number : number + 1], ome_document(body, uuid(number)))
    return folder / "0.ome.tif"


def _ndtiff(folder: Path) -> Path:
    frames = [({"z": z, "channel": c}, WIDE[0, z, c]) for z in range(3) for c in range(2)]
    write_ndtiff(folder, {"a_NDTiffStack.tif": frames})
    return folder / "a_NDTiffStack.tif"


def _micromanager(folder: Path) -> Path:
    frames = [((c, z, 0, 0), WIDE[0, z, c]) for z in range(3) for c in range(2)]
    summary = {"Channels": 2, "Slices": 3, "Frames": 1, "Positions": 1, "z-step_um": 2.0}
    path = folder / "a_MMStack_Pos0.tif"
    write_micromanager_stack(path, frames, {**summary, "Width": 20, "Height": 16})
    return path


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", GRAY)
    return folder / "a.npy"


def _zarr(zarr_format: int, **options: Any) -> Maker:
    def write(folder: Path) -> Path:
        import zarr

        array: Any = zarr.create_array(
            folder / "a.zarr",
            shape=GRAY.shape,
            dtype=GRAY.dtype,
            zarr_format=zarr_format,
            **{"chunks": (2, 16, 16), **options},
        )
        array[:] = GRAY
        return folder / "a.zarr"

    return write


def _ome_zarr(version: str) -> Maker:
    def write(folder: Path) -> Path:
        import zarr

        zarr_format: Any = 2 if version == "0.4" else 3
        group = zarr.create_group(folder / "a.zarr", zarr_format=zarr_format)
        named: dict[str, Any] = {} if zarr_format == 2 else {"dimension_names": list("zyx")}
        array = group.create_array(
            "0", shape=GRAY.shape, dtype=GRAY.dtype, chunks=(2, 16, 16), **named
        )
        array[:] = GRAY
        scale = {"type": "scale", "scale": [2.0, 0.5, 0.5]}
        axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
        datasets = [{"path": "0", "coordinateTransformations": [scale]}]
        image = {"version": version, "axes": axes, "datasets": datasets}
        content = {"multiscales": [image]}
        group.attrs.update(content if zarr_format == 2 else {"ome": {**content, "version": "0.5"}})
        return folder / "a.zarr"

    return write


def _czi(compression: int = 0) -> Maker:
    def write(folder: Path) -> Path:
        blocks = [
            Block(GRAY[z], {"X": 0, "Y": 0, "Z": z, "C": 0}, compression) for z in range(3)
        ] + [Block(GRAY[0], {"X": 20, "Y": 4, "Z": 1, "C": 0}, compression)]
        sizes = {"X": "1e-7", "Y": "1e-7", "Z": "1e-6"}
        found = Czi(blocks, czi_xml(sizes, channels=[("DAPI", "#FF0000FF")]), ["Label"])
        (folder / "a.czi").write_bytes(czi_bytes(found))
        return folder / "a.czi"

    return write


def _lif(folder: Path) -> Path:
    pictures = [plain("one", "zyx", GRAY, {"x": 1e-7, "y": 1e-7}), plain("two", "yx", GRAY[0])]
    (folder / "a.lif").write_bytes(lif_bytes(pictures))
    return folder / "a.lif"


def _lof(folder: Path) -> Path:
    (folder / "a.lof").write_bytes(lof_bytes(plain("one", "zyx", GRAY, {"x": 1e-7})))
    return folder / "a.lof"


def _xlef(folder: Path) -> Path:
    return write_project(folder, plain("one", "zyx", GRAY))


def _oif(folder: Path) -> Path:
    return write_oif(folder, "ZCYX", WIDE[0])


def _oib(folder: Path) -> Path:
    import shutil

    data = oib_of(_oif(folder))
    (folder / "a.oif").unlink()
    shutil.rmtree(folder / "a.oif.files")
    (folder / "a.oib").write_bytes(data)
    return folder / "a.oib"


def _oir(folder: Path) -> Path:
    (folder / "a.oir").write_bytes(oir_bytes(WIDE, parts=2))
    return folder / "a.oir"


def _nd2(folder: Path) -> Path:
    (folder / "a.nd2").write_bytes(sample("lm/cluster.nd2").read_bytes())
    return folder / "a.nd2"


def _dicom(folder: Path) -> Path:
    return save(dataset(GRAY[0], PixelSpacing=[0.7, 0.5]), folder / "a.dcm")


def _dicom_frames(folder: Path) -> Path:
    groups = [at_position(0, 0, 2.5 * n) for n in range(3)]
    return save(enhanced(GRAY, groups), folder / "a.dcm")


def _dicom_j2k(folder: Path) -> Path:
    import imagecodecs
    from pydicom.uid import JPEG2000Lossless

    frames = [imagecodecs.jpeg2k_encode(each, level=0, reversible=True) for each in GRAY]
    return save_compressed(dataset(GRAY, 3), frames, folder / "a.dcm", JPEG2000Lossless)


def _dicom_rle(folder: Path) -> Path:
    from pydicom import dcmread

    _dicom_frames(folder)
    from pydicom.uid import RLELossless

    found = dcmread(folder / "a.dcm")
    found.compress(RLELossless, generate_instance_uid=False)
    found.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder / "a.dcm"


def _dicom_series(folder: Path) -> Path:
    return save_dicom_series(folder / "series", GRAY, [(0, 0, 2.5 * n) for n in range(3)])


def _tiles() -> Any:
    return COLOR.reshape(3, 16, 40, 3)[:, :, :32].reshape(3, 16, 2, 16, 3).swapaxes(1, 2)


def _dicom_slide(folder: Path) -> Path:
    return save(slide(_tiles().reshape(-1, 16, 16, 3), 48, 32), folder / "a.dcm")


def _dicom_slide_jpeg(folder: Path) -> Path:
    import imagecodecs
    from pydicom.uid import JPEGBaseline8Bit

    tiles = _tiles().reshape(-1, 16, 16, 3)
    frames = [imagecodecs.jpeg_encode(np.ascontiguousarray(tile), level=90) for tile in tiles]
    found = slide(tiles, 48, 32, PhotometricInterpretation="YBR_FULL_422")
    return save_compressed(found, frames, folder / "a.dcm", JPEGBaseline8Bit)


def _nifti(name: str, kind: str = "Nifti1Image") -> Maker:
    def write(folder: Path) -> Path:
        import nibabel

        array = GRAY.astype("i2").transpose(2, 1, 0)
        getattr(nibabel, kind)(array, np.diag([0.5, 0.5, 2, 1])).to_filename(folder / name)
        return folder / name

    return write


def _mrc(name: str) -> Maker:
    def write(folder: Path) -> Path:
        import gzip
        import warnings

        import mrcfile

        # mrcfile 1.5.4 sets the dtype of an array in place, which numpy 2.5 deprecates
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.new(folder / "a.mrc", GRAY) as mrc:
                mrc.voxel_size = (1.0, 2.0, 3.0)
        if name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress((folder / "a.mrc").read_bytes()))
            (folder / "a.mrc").unlink()
        return folder / name

    return write


def _nrrd(encoding: str, detached: bool = False) -> Maker:
    def write(folder: Path) -> Path:
        import gzip

        data = GRAY.tobytes()
        if encoding == "gzip":
            data = gzip.compress(data)
        if encoding == "ascii":
            data = " ".join(map(str, GRAY.ravel())).encode()
        lines = ["NRRD0004", "type: ushort", "dimension: 3", "sizes: 24 20 3", "endian: little"]
        lines += [f"encoding: {encoding}", "space: left-posterior-superior"]
        lines += ["space directions: (0.5,0,0) (0,0.5,0) (0,0,2)", "space origin: (1,2,3)"]
        lines += ["data file: a.raw"] if detached else []
        head = ("\n".join(lines) + "\n\n").encode()
        path = folder / ("a.nhdr" if detached else "a.nrrd")
        path.write_bytes(head if detached else head + data)
        if detached:
            (folder / "a.raw").write_bytes(data)
        return path

    return write


def _metaimage(name: str, compressed: bool = False) -> Maker:
    def write(folder: Path) -> Path:
        import zlib

        data = zlib.compress(GRAY.tobytes()) if compressed else GRAY.tobytes()
        local = name.endswith(".mha")
        lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "DimSize = 24 20 3"]
        lines += ["BinaryDataByteOrderMSB = False", "ElementSpacing = 0.5 0.5 2"]
        lines += [f"CompressedData = {compressed}"]
        lines += [f"CompressedDataSize = {len(data)}"] if compressed else []
        lines += ["ElementType = MET_USHORT", f"ElementDataFile = {'LOCAL' if local else 'a.raw'}"]
        head = ("\n".join(lines) + "\n").encode()
        (folder / name).write_bytes(head + data if local else head)
        if not local:
            (folder / "a.raw").write_bytes(data)
        return folder / name

    return write


def _hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("plain", data=GRAY)
        file.create_dataset("g/data", data=GRAY, chunks=(2, 8, 8), compression="gzip")
    return folder / "a.h5"


def _bdv(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["s00/resolutions"] = np.array([[1.0, 1, 1]])
        file["s00/subdivisions"] = np.full((1, 3), 16, "i4")
        for time in range(2):
            data = GRAY.view("i2")
            file.create_dataset(f"t{time:05}/s00/0/cells", data=data, chunks=(2, 8, 8))
    return _bdv_document(folder, "hdf5", "a.h5")


def _bdv_document(folder: Path, loader: str, place: str) -> Path:
    affine = "0.5 0 0 10  0 0.25 0 -20  0 0 2 30"
    views = "".join(
        f'<ViewRegistration timepoint="{time}" setup="0"><ViewTransform type="affine">'
        f"<affine>{affine}</affine></ViewTransform></ViewRegistration>"
        for time in range(2)
    )
    (folder / "a.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><SpimData version="0.2">'
        '<BasePath type="relative">.</BasePath><SequenceDescription>'
        f'<ImageLoader format="bdv.{loader}"><{loader} type="relative">{place}</{loader}>'
        "</ImageLoader><ViewSetups><ViewSetup><id>0</id><name>left</name><size>24 20 3</size>"
        "<voxelSize><unit>um</unit><size>0.5 0.25 2</size></voxelSize></ViewSetup></ViewSetups>"
        f"</SequenceDescription><ViewRegistrations>{views}</ViewRegistrations></SpimData>",
        encoding="utf-8",
    )
    return folder / "a.xml"


def _imaris(folder: Path) -> Path:
    import h5py

    def put(group: Any, **texts: str) -> None:
        for name, text in texts.items():
            group.attrs[name] = np.array([c.encode() for c in text], "S1")

    with h5py.File(folder / "a.ims", "w") as file:
        for channel in range(2):
            place = f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {channel}"
            group = file.create_group(place)
            padded = np.full((4, 24, 24), 9, "u2")
            padded[:3, :20, :24] = GRAY
            group.create_dataset("Data", data=padded, chunks=(4, 8, 8), compression="gzip")
            put(group, ImageSizeX="24", ImageSizeY="20", ImageSizeZ="3")
            put(file.create_group(f"DataSetInfo/Channel {channel}"), Name="GFP", Color="0 1 0")
        info = file.create_group("DataSetInfo/Image")
        put(info, X="24", Y="20", Z="3", Unit="um", Name="embryo")
        for number in range(3):
            put(info, **{f"ExtMin{number}": "0", f"ExtMax{number}": "10"})
    return folder / "a.ims"


def _minc(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.mnc", "w") as file:
        data = file.create_dataset("minc-2.0/image/0/image", data=GRAY, chunks=(3, 10, 12))
        data.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        data.attrs["valid_range"] = [0.0, 100.0]
        file["minc-2.0/image/0/image-min"], file["minc-2.0/image/0/image-max"] = 0.0, 10.0
        for number, name in enumerate(("xspace", "yspace", "zspace")):
            about = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0).attrs
            about["step"], about["start"], about["length"] = 1.0, 2.0, (24, 20, 3)[number]
            about["direction_cosines"] = np.eye(3)[number]
            about["units"], about["spacing"] = np.bytes_("mm"), np.bytes_("regular__")
    return folder / "a.mnc"


def _n5(compression: str) -> Maker:
    def write(folder: Path) -> Path:
        import tensorstore as ts

        metadata = {"dimensions": [24, 20, 3], "blockSize": [16, 16, 2], "dataType": "uint16"}
        spec = {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{folder}/a.n5/"},
            "metadata": {**metadata, "compression": {"type": compression}},
        }
        ts.open(spec, create=True).result().write(GRAY.T).result()
        return folder / "a.n5"

    return write


def _precomputed(**scale: Any) -> Maker:
    def write(folder: Path) -> Path:
        import tensorstore as ts

        about = {"key": "full", "size": [24, 20, 3], "chunk_size": [16, 16, 2]}
        about |= {"resolution": [8, 8, 40], "encoding": "raw"}
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{folder}/a/"},
            "multiscale_metadata": {"type": "image", "data_type": "uint16", "num_channels": 1},
            "scale_metadata": {**about, **scale},
        }
        ts.open(spec, create=True).result().write(GRAY.T[..., None]).result()
        return folder / "a"

    return write


def _joined(folder: Path) -> Path:
    for z in range(3):
        _tiff(f"z{z}.tif", GRAY[z], photometric="minisblack")(folder)
    return folder / "z{z}.tif"


_SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 1,
    "shard_bits": 1,
    "hash": "identity",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}


def _imagej() -> Maker:
    options = {"imagej": True, "resolution": (2, 2)}
    return _tiff(array=GRAY[:, None], metadata={"axes": "ZCYX", "spacing": 2.0}, **options)


MAKERS: dict[str, Maker] = {
    "tiff-strips": _tiff(
        compression="zlib", predictor=True, rowsperstrip=8, photometric="minisblack"
    ),
    "tiff-plain": _tiff(photometric="minisblack", rowsperstrip=8),
    "tiff-tiles": _tiff(tile=(16, 16), compression="lzw", photometric="minisblack"),
    "tiff-zstd": _tiff(tile=(16, 16), compression="zstd", photometric="minisblack"),
    "tiff-big": _tiff(bigtiff=True, photometric="minisblack"),
    "tiff-jpeg": _tiff(array=COLOR, photometric="rgb", compression="jpeg", tile=(16, 16)),
    "tiff-planar": _tiff(array=COLOR.transpose(2, 0, 1), photometric="rgb"),
    "tiff-imagej": _imagej(),
    "tiff-shaped": _tiff(
        metadata={"axes": "ZYX"}, compression="packbits", photometric="minisblack"
    ),
    "ome-tiff": _tiff(
        "a.ome.tif", metadata={"axes": "ZYX", "PhysicalSizeX": 0.5}, photometric="minisblack"
    ),
    "ome-tiff-pyramid": _pyramid,
    "ome-tiff-files": _ome_files,
    "ndtiff": _ndtiff,
    "micromanager": _micromanager,
    "npy": _npy,
    "zarr-v2": _zarr(2),
    "zarr-v3": _zarr(3),
    "zarr-v3-sharded": _zarr(3, chunks=(1, 8, 8), shards=(2, 16, 16)),
    "ome-zarr-0.4": _ome_zarr("0.4"),
    "ome-zarr-0.5": _ome_zarr("0.5"),
    "czi": _czi(),
    "czi-zstd": _czi(ZSTD),
    "czi-jpegxr": _czi(JPEG_XR),
    "lif": _lif,
    "lof": _lof,
    "xlef": _xlef,
    "nd2": _nd2,
    "oif": _oif,
    "oib": _oib,
    "oir": _oir,
    "dicom": _dicom,
    "dicom-frames": _dicom_frames,
    "dicom-j2k": _dicom_j2k,
    "dicom-rle": _dicom_rle,
    "dicom-series": _dicom_series,
    "dicom-slide": _dicom_slide,
    "dicom-slide-jpeg": _dicom_slide_jpeg,
    "nifti": _nifti("a.nii"),
    "nifti-gz": _nifti("a.nii.gz"),
    "nifti-2": _nifti("a.nii", "Nifti2Image"),
    "nifti-pair": _nifti("a.hdr", "Nifti1Pair"),
    "analyze": _nifti("a.hdr", "AnalyzeImage"),
    "mgh": _nifti("a.mgh", "MGHImage"),
    "mgz": _nifti("a.mgz", "MGHImage"),
    "mrc": _mrc("a.mrc"),
    "mrc-gz": _mrc("a.mrc.gz"),
    "nrrd": _nrrd("raw"),
    "nrrd-gz": _nrrd("gzip"),
    "nrrd-detached": _nrrd("raw", detached=True),
    "metaimage": _metaimage("a.mha"),
    "metaimage-zlib": _metaimage("a.mha", compressed=True),
    "metaimage-pair": _metaimage("a.mhd"),
    "hdf5": _hdf5,
    "bdv-hdf5": _bdv,
    "imaris": _imaris,
    "minc": _minc,
    "n5-gzip": _n5("gzip"),
    "n5-xz": _n5("xz"),
    "precomputed": _precomputed(),
    "precomputed-sharded": _precomputed(sharding=_SHARDING),
    "joined": _joined,
}
"""By name of the format and how it is written."""
