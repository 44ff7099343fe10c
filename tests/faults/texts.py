"""A bundle to do harm to, and callers who know what it must answer."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

from service.bundle import MANIFEST_FILE, Bundle, seal
from service.contract import Contract
from tests.faults.harness import Caller
from tests.support.models import text_bundle

MODEL = "texts"
_SERIAL = count(1)


def make_bundle(folder: Path) -> Bundle:
    """Write a bundle that answers as all of its kind and has a digest of its own; return it."""
    bundle = text_bundle(folder / "made", MODEL)
    contract = Contract.model_validate(
        {name: getattr(bundle.manifest, name) for name in Contract.model_fields}
    )
    (bundle.path / MANIFEST_FILE).unlink()
    sealed = seal(bundle.path, contract, {"serial": str(next(_SERIAL))})
    path = folder / f"bundle-{next(_SERIAL)}"
    sealed.path.rename(path)
    shutil.rmtree(folder / "made")
    return Bundle(path, sealed.manifest)


async def ask(caller: Caller) -> None:
    """Ask for two texts; raises AssertionError unless both are answered rightly."""
    texts = ["word", "word word word word word"]
    status, body = await caller.ask("POST", f"/v1/models/{MODEL}:predict", {"instances": texts})
    assert status == 200, f"{status}: {body}"
    labels = [one["label"] for one in body["predictions"]]
    assert labels == ["short", "long"], labels


async def digest(caller: Caller) -> str:
    """Return the digest of the bundle that answers, "" while there is none."""
    status, body = await caller.ask("GET", f"/v1/models/{MODEL}/info")
    return str(body.get("digest", "")) if status == 200 else ""
