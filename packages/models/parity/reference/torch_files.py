"""Files by torch.save: tensors of every kind and view, a checkpoint, and two that must be refused."""

from collections import OrderedDict

import torch

from .common import OUT, stream

FOLDER = OUT / "torch-files"


def torch_files():
    FOLDER.mkdir(exist_ok=True)
    base = torch.arange(12.0).reshape(3, 4)
    kinds = {
        "turned": base.t(), "row": base[1], "half": base.half(), "bfloat16": base.bfloat16(),
        "int64": torch.tensor([1, -2]), "int32": torch.tensor([7], dtype=torch.int32), "uint8": torch.tensor([255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]), "float64": torch.tensor(1.5, dtype=torch.float64), "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    torch.save(kinds, FOLDER / "kinds.pt")
    torch.save(kinds, FOLDER / "kinds-legacy.pth", _use_new_zipfile_serialization=False)
    model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream("torch-files")).half())
    state = model.state_dict()
    rest = {"epoch": 3, "name": "a", "lr": 1e-3, "wide": 2**40, "minus": -5, "none": None, "flags": [True, False], "size": base.shape}
    torch.save({**rest, "state_dict": state}, FOLDER / "checkpoint.pt")
    torch.save(OrderedDict(state), FOLDER / "protocol-4.pt", pickle_protocol=4)
    torch.save(state, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, FOLDER / "module.pt")
    torch.jit.script(model).save(str(FOLDER / "script.pt"))
