"""The stored plan never changes: its document byte for byte, and its digest.

A build that was begun by an older version is continued only if the same options give the same
digest, and `verify` and `repair` read the document. The literal values below were written once; a
change to them needs a new `PLAN_FORMAT` or `ALGORITHM`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin

IMAGES = {
    "plane": ImageInfo(("y", "x"), (5000, 7001), "<u2", (1.0, 1.0), (0.0, 0.0), (None, None)),
    "brain": ImageInfo(
        dims=("z", "y", "x"),
        shape=(300, 1024, 2000),
        dtype="|u1",
        scale=(2.5, 0.5, 0.5),
        translation=(0.0, 1.5, -3.0),
        units=("micrometer", "micrometer", "micrometer"),
        name="brain",
        orientations=("inferior-to-superior", "anterior-to-posterior", "left-to-right"),
    ),
    "cells": ImageInfo(
        dims=("t", "c", "z", "y", "x"),
        shape=(2, 3, 40, 600, 517),
        dtype="<f4",
        scale=(0.1, 1.0, 2.0, 0.3, 0.3),
        translation=(0.0, 0.0, 0.0, 0.0, 0.0),
        units=("second", None, "nanometer", "nanometer", "nanometer"),
        name="cells",
    ),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "0.4": {"ome_zarr_version": "0.4", "chunks": 64},
    "0.6": {"ome_zarr_version": "0.6", "compressor": "gzip:1"},
    "nearest": {"method": "dask_image_nearest", "scale_factors": [2, 4]},
    "mode": {"method": "dask_image_mode", "scale_factors": [{"y": 2, "x": 2}], "shards": None},
    "shards": {"chunks": 32, "shards": {"y": 64, "x": 128}, "scale_factors": [2]},
}


def plan_of(image: str, options: str) -> PyramidPlan:
    """A plan with a fixed method version, so that no installed package changes the document."""
    source = SourcePin(f"/data/{image}.tif", (("size", "12"), ("modified", "1.5")))
    return replace(make_plan(source, IMAGES[image], **OPTIONS[options]), method_version="1.2.3")


GOLDEN = {
    # (image, options): (digest, SHA-256 of the document)
    ("plane", "defaults"): (
        "b199a2d4881fb7aa6c8914cbe80a6d69fe6b38f63f62a0971e338d26c7d8b7a3",
        "8a6d61fd7291467856de9913dd36d9619456a323852f32b09066e329799a6f2c",
    ),
    ("plane", "0.4"): (
        "152ed840048c1126cc18b9038fd14c118fb4de2d5151219a5db8341bfd6d72d4",
        "02dfbeb0b006b2c519d31a196c5c9a4dd08d00fba870df7a00699b448d6579e1",
    ),
    ("plane", "0.6"): (
        "733944b14178bdbd5414351acdcd515f4bd69e6fab8543b18d75951b4c4dc521",
        "c8e3fe95c374c6210e5dbb6478ffbf3b1809381fd58644fcbc4d5389c387c61b",
    ),
    ("plane", "nearest"): (
        "f738ce461b1b8854b1771d89a8c70c8598bb30a503e8d5763b15a7257caa42de",
        "1ddccb90c06042e32f0211e784d3ce42e3d94b39fb299004d148c05934b1dc0b",
    ),
    ("plane", "mode"): (
        "b36d269a8efc600942b85c5438672bea42a6102a91e3ac32ee3fc46a2b288664",
        "33468187374032e8d9cdb612c20b8763534cf11cc8af1176c15b94ca8c91ccba",
    ),
    ("plane", "shards"): (
        "88fd702c0b33b70d523231a329a4c3a846355462e7c1e10bb17891f848329c96",
        "c6a66960d855adfa5f20189e7fb5ee32a987a64eb19cd03d6e4818aa3b78bbb3",
    ),
    ("brain", "defaults"): (
        "1e66267cd161400e3d475188746a2cad5f4bf03305bf368c8df79df28cc67450",
        "6e6cde7f878976bc00ae0231924e00af5e442ed7098dc6a78849474ed950bd4b",
    ),
    ("brain", "0.4"): (
        "09eae528256e9b70684e282a56cc9e55baff76333580b72d9a0cadaab758ba96",
        "c433a79899e9f85c25bbefbbaef6d45d5d3dc76ce507423d96b56063d84dedc8",
    ),
    ("brain", "0.6"): (
        "d01e91a97a57c0c94e2854eb36f27a85702f2cd614a2ddbd803d74b85d39070f",
        "a4a4b29d2269f8e98ed8e0004cf9f5cf7ad76759c7c09af457b6fffeec3cb722",
    ),
    ("brain", "nearest"): (
        "36fedd8ea5aa443bcaf63680abe6bb888afa71634432d64f43289e6b06a3dfe7",
        "15e9d6449e3aee545ef8d7a71316a52ca8ac21b75e9c64d515653f3e4e8a1d00",
    ),
    ("brain", "mode"): (
        "74b56f2c22de1a4b7ab814bd39547f2f53585d9b50e3f9c3443e7c5a909d337b",
        "a44fd71d4e0df6dccfef53832e0ac265621dfe80f7bb66e00045a1c4e8bb2bdc",
    ),
    ("brain", "shards"): (
        "dacb6f5f7fabda4cf00940853357411793fd54f1a828f1108cd63cd6f1f11afc",
        "e60fd4a7ddee8a5f393ac4b2a77966a67b6f940f153b72c55925d0f3fd9b4fcb",
    ),
    ("cells", "defaults"): (
        "ac896635529168c4a391ae2d1eaee76f3e67e7281b697817a0d8f35f9d78932c",
        "afe68fd05f3ebb7265d5ad4df0bd4d1829280b435babf4b0ec31260a5d6d570f",
    ),
    ("cells", "0.4"): (
        "bfb810f32fbb47cfe7151192550c2db819d5935de4e16eb13551e973ac57cbec",
        "11b757be27cbb366db5d97d84b58574e4881d9fb3c96a8a3a4c3ddfb3c4f706f",
    ),
    ("cells", "0.6"): (
        "5da31571f50b88406df9d909794573d5ce75c6a28936502113d79d6f6f3d63ef",
        "3cdead8194631d4cfcac942fc008924404c5bf23e13199ce5f8a20411fe3ecbd",
    ),
    ("cells", "nearest"): (
        "c76a4aa3dd3b8ad7ca303a8821765bf04eb55ec0f09c72a5b9f31feeda575524",
        "f28f0532d40a3503e622df7e48ba4e5bd7c3d05760248dc67bc75416f202e8f3",
    ),
    ("cells", "mode"): (
        "58fb3e10752296c92e0da236cf90fde471cf81b9d3df6fec5def006d7d34b4dc",
        "c13575ce370dd099925bf2485a35697487d139b5677582b888d438efdd11b737",
    ),
    ("cells", "shards"): (
        "cf4ba80b885e17c93f59807c06ff9db6e71a8f24b1167f2af585d678f955baaa",
        "bab8c3b38de2e21294a4a54c775f2befeb9d71b6598b8414fe1aa40956f08636",
    ),
}


def test_every_case_has_a_golden_value() -> None:
    assert set(GOLDEN) == {(image, options) for image in IMAGES for options in OPTIONS}


@pytest.mark.parametrize(("image", "options"), GOLDEN)
def test_digest_and_document_stay_as_they_were(image: str, options: str) -> None:
    """The digest decides whether a build is continued, the document what `repair` reads."""
    plan = plan_of(image, options)
    document = plan.to_json()
    assert (plan.digest, hashlib.sha256(document).hexdigest()) == GOLDEN[image, options]
    assert PyramidPlan.from_json(document) == plan


DOCUMENT = b"""{
 "digest": "bf0f23b27393cd0be3eb8503f513888017b0e2b6d8870f5325c74964564edbff",
 "source": {
  "uri": "/data/small.npy",
  "pins": [
   [
    "size",
    "192"
   ]
  ]
 },
 "image": {
  "dims": [
   "y",
   "x"
  ],
  "shape": [
   8,
   8
  ],
  "dtype": "<u2",
  "scale": [
   0.5,
   0.5
  ],
  "translation": [
   0.0,
   0.0
  ],
  "units": [
   "micrometer",
   null
  ],
  "name": "image",
  "orientations": []
 },
 "method": "dask_image_nearest",
 "ome_zarr_version": "0.5",
 "compressor": "blosc:zstd:1:bitshuffle",
 "levels": [
  {
   "index": 0,
   "path": "scale0/image",
   "shape": [
    8,
    8
   ],
   "chunks": [
    4,
    4
   ],
   "shards": [
    8,
    8
   ],
   "block": [
    8,
    8
   ],
   "factor": [
    1,
    1
   ],
   "parent": null,
   "step": [
    1,
    1
   ]
  },
  {
   "index": 1,
   "path": "scale1/image",
   "shape": [
    4,
    4
   ],
   "chunks": [
    4,
    4
   ],
   "shards": [
    4,
    4
   ],
   "block": [
    4,
    4
   ],
   "factor": [
    2,
    2
   ],
   "parent": 0,
   "step": [
    2,
    2
   ]
  }
 ],
 "method_version": "1.2.3",
 "format": 2,
 "algorithm": 1
}
"""


def test_a_stored_plan_is_read_and_written_byte_for_byte() -> None:
    """Its keys, their order and their layout, as builds of today have stored them."""
    plan = PyramidPlan.from_json(DOCUMENT)
    assert plan.to_json() == DOCUMENT
    assert (plan.source.uri, plan.image.name, plan.method) == (
        "/data/small.npy",
        "image",
        "dask_image_nearest",
    )
    fine, coarse = plan.levels
    assert (fine.chunks, fine.shards, fine.block, fine.parent) == ((4, 4), (8, 8), (8, 8), None)
    assert (coarse.shape, coarse.factor, coarse.step, coarse.parent) == ((4, 4), (2, 2), (2, 2), 0)
