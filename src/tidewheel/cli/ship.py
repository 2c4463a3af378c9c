"""`tidewheel ship`: a model version as a folder, wheel, function, page, image or manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out


def ship(
    *,
    model: Annotated[str, typer.Argument(help="Model: bikes, bikes:3 or bikes@champion.")],
    way: Annotated[
        str,
        typer.Option("--as", help="folder, wheel, function, page, dockerfile, image, kubernetes, kserve, python or c."),
    ] = "folder",
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("shipped"),
    image: Annotated[str, typer.Option("--image", help="Image that kubernetes and kserve start.")] = "",
    base: Annotated[Path | None, typer.Option("--base", help="OCI layout of an image with Python, for image.")] = None,
    packages: Annotated[
        Path | None, typer.Option("--packages", help="Folder of installed packages, a layer of the image.")
    ] = None,
    runtime: Annotated[Path | None, typer.Option("--runtime", help="dist folder of onnxruntime-web, for page.")] = None,
    push: Annotated[str, typer.Option("--push", help="Push the image to host/name:tag.")] = "",
    user: Annotated[str, typer.Option("--user", help="User of the registry.", envvar="TIDEWHEEL_REGISTRY_USER")] = "",
    password: Annotated[
        str, typer.Option("--password", help="Password of the registry.", envvar="TIDEWHEEL_REGISTRY_PASSWORD")
    ] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Write a model version in the form that its place needs, and say where."""
    from tidewheel.shipping.ways import Wishes
    from tidewheel.shipping.ways import ship as write

    wishes = Wishes(image=image, base=base, packages=packages, runtime=runtime, push=push, user=user, password=password)
    with opened(home) as store:
        shipped = write(store, model, way, out, wishes)
    if json:
        json_out(shipped)
        return
    print(f"{shipped.model} {shipped.bundle[:19]} as {shipped.way}: {shipped.place}")
    for note in shipped.notes:
        print(f"  {note}")


COMMANDS = (Command(function=ship, example="tidewheel ship bikes@champion --as wheel --out dist"),)
