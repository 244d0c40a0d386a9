"""Tiny ONNX detectors for the tests of packages/rldf/src/rewards/detectors: python test/onnx/make.py (needs onnx, numpy).

Each looks for red, green and blue pixels: the picture, 8 x 8, is pooled to 2 x 2 cells, and each cell is one box whose class
scores are the means of its channels. So what they must find in a picture is known by hand.
"""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE, CELLS = 8, 4  # pixels of an edge; boxes


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def centres():
    """[1, 4, 4]: x, y, w, h of each cell, pixels."""
    xs = [2, 6, 2, 6]
    ys = [2, 2, 6, 6]
    return [[xs, ys, [4] * 4, [4] * 4]]


def model(name, nodes, constants, outputs, open_size=False, metadata=None):
    side = "size" if open_size else SIZE
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])
    infos = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in outputs]
    graph = helper.make_graph(nodes, name, [picture], infos, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in (metadata or {}).items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(made)
    onnx.save(made, os.path.join(HERE, name + ".onnx"))


pool = helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[4, 4], strides=[4, 4])
flat = helper.make_node("Reshape", ["cells", "flat_shape"], ["scores"])  # [1, 3, 4]
flat_shape = constant("flat_shape", [1, 3, CELLS], np.int64)

# YOLOv8: [1, 4 + 3, 4], labels in the metadata as Ultralytics writes them
model(
    "yolo",
    [pool, flat, helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1)],
    [flat_shape, constant("boxes", centres())],
    [("output0", [1, 7, CELLS])],
    metadata={"names": "{0: 'red', 1: \"green\", 2: 'it\\'s blue'}"},
)
# YOLOv5: [1, 4, 5 + 3], objectness 0.5
model(
    "yolo-objectness",
    [
        pool,
        flat,
        helper.make_node("Concat", ["boxes", "objectness", "scores"], ["columns"], axis=1),
        helper.make_node("Transpose", ["columns"], ["output0"], perm=[0, 2, 1]),
    ],
    [flat_shape, constant("boxes", centres()), constant("objectness", [[[0.5] * CELLS]])],
    [("output0", [1, CELLS, 8])],
)
# end to end: [1, 2, 6] of fixed rows, whatever the picture
model(
    "end-to-end",
    [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "one"], ["row"]),
        helper.make_node("Mul", ["row", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "rows"], ["output0"]),
    ],
    [
        constant("one", [1, 1, 1], np.int64),
        constant("nothing", [0]),
        constant("rows", [[[0, 0, 4, 4, 0.9, 2], [4, 4, 8, 8, 0.2, 0]]]),
    ],
    [("output0", [1, 2, 6])],
)
# DETR: logits [1, 4, 4] with a last class for nothing (its logit 0), boxes [1, 4, 4] as shares; its size is open
grown = helper.make_node("Mul", ["scores", "gain"], ["strong"])
detr = [
    helper.make_node("Resize", ["images", "", "", "fixed"], ["small"], mode="nearest"),
    helper.make_node("AveragePool", ["small"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
    flat,
    grown,
    helper.make_node("Transpose", ["strong"], ["classes"], perm=[0, 2, 1]),
    helper.make_node("Concat", ["classes", "nothing"], ["logits"], axis=2),
    helper.make_node("Identity", ["shares"], ["pred_boxes"]),
]
shares = np.transpose(np.array(centres(), dtype=np.float32) / SIZE, (0, 2, 1))
model(
    "detr",
    detr,
    [
        flat_shape,
        constant("fixed", [1, 3, SIZE, SIZE], np.int64),
        constant("gain", [4]),
        constant("nothing", [[[0]] * CELLS]),
        numpy_helper.from_array(shares, "shares"),
    ],
    [("logits", [1, CELLS, 4]), ("pred_boxes", [1, CELLS, 4])],
    open_size=True,
)
# a quality network: the mean of the red channel of a crop, one number
model(
    "quality",
    [
        helper.make_node("Slice", ["images", "from", "to", "axis"], ["red"]),
        helper.make_node("ReduceMean", ["red"], ["score"], axes=[1, 2, 3], keepdims=0),
    ],
    [constant("from", [0], np.int64), constant("to", [1], np.int64), constant("axis", [1], np.int64)],
    [("score", [1])],
)
