"""The stored plan never changes: its document byte for byte, and its digest.

A build that was begun by an older version is continued only if the same options give the same
digest, or one that `earlier_plans` lists, and `verify` and `repair` read the document. The literal
values below were written once; a change to them needs another earlier plan, or a new `PLAN_FORMAT`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from ngff_core.plan.earlier import earlier_plans
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin
from ngff_core.plan.scale_factors import factors_from_min_length

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


def plan_of(image: str, options: str, **more: Any) -> PyramidPlan:
    """A plan with a fixed method version, so that no installed package changes the document."""
    source = SourcePin(f"/data/{image}.tif", (("size", "12"), ("modified", "1.5")))
    plan = make_plan(source, IMAGES[image], **OPTIONS[options], **more)
    return replace(plan, method_version="1.2.3")


NAMED_AND_HALVED_ONE_BY_ONE = {
    # (image, options): (digest, SHA-256 of the document), as earlier versions made them
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


GOLDEN = {
    # The same of this version.
    ("plane", "defaults"): (
        "3dbee49f692d0615be976ae740191af2949556ab67aa2c2b72c25abf201d5cce",
        "b49f3b2ee39cd6ab71ffa55835eeb6831f3a5197727170f4ce83c0c28bf6d27b",
    ),
    ("plane", "0.4"): (
        "ae51d407648bc74480bfbfa30eae2e108eb309c2a83ec63b2c6cec88c0565687",
        "77d34e7317a17f893dfdbca539cd6c1ecd87c37941be0fb8c899470247cc2f51",
    ),
    ("plane", "0.6"): (
        "ada9bef64be33a92864e731c51767103f005f6a4fd82b5304bff09d0807f45e6",
        "534ae5516cb2c22ac581c7d015f5e601b6bd9cf5a3f666bd6334d948a9948d69",
    ),
    ("plane", "nearest"): (
        "6ffe5393555153ad23eab566dec71148ca7c4d1fdfa9e2e1180291a34d84401e",
        "7ecf76052a3dad0e1901d96e5021f11b0b2ccbb6fbd84506227b783d1308bed4",
    ),
    ("plane", "mode"): (
        "cc6666d88373cd47d9539ffbdc02f971366a40889b2820544b68a9bc019d1e95",
        "f10e1182a17b819fccfdbd924fe4b6e60eda49cdbfb1c2477a8c2cd5f89a345b",
    ),
    ("plane", "shards"): (
        "56a46251534ab99b1badc31116308710cf864fb7ad6103cb2724a9060e235d65",
        "9dd7247171423bf12eee1e6a7b6089ec502321ddd98216d7980a28ca98d5a1da",
    ),
    ("brain", "defaults"): (
        "002b4650a26fdd370728ad48e8c677c4c0966f95b2a86f6ec819b3b9da77a330",
        "f8ed05db8cd98d2cc8f4ab6acabdf1bdedcb7375b2ddf54ba04c6ab4e3aa7f73",
    ),
    ("brain", "0.4"): (
        "44fd608e6759ed0f59f2cb8fb0cc5f89d80a5954c77410c5fad77b0e477e9676",
        "ee2f312878fc9b076cf24245caecd3271ec50ad7d8b1775d5989b97f0f18bf18",
    ),
    ("brain", "0.6"): (
        "76d9211045b1d704b2fbf26b93a6ab2cd12aa35eb9ea645b9756482f8024d988",
        "ab9962bc9c910a62e441f023e1cd3943e6527a3a75bece2c3085b9533e3f06c6",
    ),
    ("brain", "nearest"): (
        "febfd80d2b6e958af079462de25732f9331aafbad60353e62e10db4308a83e60",
        "f4f6b98516acfe6699f0f0c170d69c9bc67c2b0493d4d92f28af0a8a932b7a3b",
    ),
    ("brain", "mode"): (
        "4e20d48f0c3b5aa5a86c004586d10bb9433d20db0510814d21374ce7e601ae3e",
        "86aa9cc41d74ff99719ab4d2cf07133119527f98e7768eb7be4df5d0b7d8ec63",
    ),
    ("brain", "shards"): (
        "62e9e03c0e3e63c6aadb819b84d5f51a56b805d39cd03cc80725d412f43f8a41",
        "add77e5fd380ef6d1775d45ab1063c393c09cf7e5d735b1e5520908daab93da6",
    ),
    ("cells", "defaults"): (
        "ae0a264e7ea4ffbdce6de9b48bb39b29610c113eb32c5d2c77ce2c24e3aeeee5",
        "527a51746822140725ef1946112f618b98e87a87d01cf7895c2d6f47f7458213",
    ),
    ("cells", "0.4"): (
        "5359258180e64a9169f2d3b951b5c2ffd5ad093f9eddd08f7370e05cfc00ce8b",
        "77b0c79c78a2cd05e862fe943f4dcd22177fd5af3ba1a93605d9d6ff0f72e6ca",
    ),
    ("cells", "0.6"): (
        "40bcdfeef024229755775abebaf87398ba57542d8bb97f94ee69b152f49619fe",
        "f86b2ec253cd468ca426ffe1c8616853120670d5f5269719965461eeb6875d66",
    ),
    ("cells", "nearest"): (
        "a66c8922fd82b6ffc5f6aeedd9c0cdfc98aed43318cbc4e1f034c8d958c56e6f",
        "8dd161e76f53b5552363049a367457f29e91d9f2a6029a559a77bf01472c83a5",
    ),
    ("cells", "mode"): (
        "e6467c30bc2bdbd674ecfdcfb117ffdf27d68d335446173c713f87d6b0087a2c",
        "9b67e63aea08cfb96bdeafd2df41b136551243adffad3799143c731af87e5315",
    ),
    ("cells", "shards"): (
        "482d2c25c928494d57cf652757de023d3b74f53cc7e5ec373c5a1b4e7704c192",
        "705e1708f43ec0ead8f85a586cb54d98ed9ba572696f8fddb097d42919315f77",
    ),
}


def test_every_case_has_a_golden_value() -> None:
    cases = {(image, options) for image in IMAGES for options in OPTIONS}
    assert set(GOLDEN) == set(NAMED_AND_HALVED_ONE_BY_ONE) == cases


@pytest.mark.parametrize(("image", "options"), GOLDEN)
def test_digest_and_document_stay_as_they_were(image: str, options: str) -> None:
    """The digest decides whether a build is continued, the document what `repair` reads."""
    plan = plan_of(image, options)
    document = plan.to_json()
    assert (plan.digest, hashlib.sha256(document).hexdigest()) == GOLDEN[image, options]
    assert PyramidPlan.from_json(document) == plan


@pytest.mark.parametrize(("image", "options"), NAMED_AND_HALVED_ONE_BY_ONE)
def test_what_earlier_versions_planned_is_among_the_earlier_plans(image: str, options: str) -> None:
    """To the byte, and without the plan of this version."""
    plan = plan_of(image, options)
    one_by_one = plan_of(image, options, halving=factors_from_min_length)
    found = earlier_plans(plan, (plan, one_by_one), IMAGES[image].name)
    documents = [(each.digest, hashlib.sha256(each.to_json()).hexdigest()) for each in found]
    assert NAMED_AND_HALVED_ONE_BY_ONE[image, options] in documents
    assert len(found) <= 2
    assert plan not in found


def test_names_in_paths_are_a_wish() -> None:
    """Then the plan is the one of earlier versions, where the name is safe in a URL."""
    named = plan_of("brain", "nearest", level_paths="named")
    assert named.digest == NAMED_AND_HALVED_ONE_BY_ONE["brain", "nearest"][0]


def test_only_a_plan_without_checksums_says_so() -> None:
    plan = plan_of("plane", "defaults", checksums=False)
    assert b'"checksums": false' in plan.to_json()
    assert b"checksums" not in plan_of("plane", "defaults").to_json()
    assert PyramidPlan.from_json(plan.to_json()) == plan
    assert plan_of("plane", "0.4", checksums=False) == plan_of("plane", "0.4")


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
