"""Tiny ONNX detectors for the tests of packages/rldf/src/rewards/detectors: python test/onnx/make.py (needs onnx, numpy).

Each looks for red, green and blue pixels: the picture, 8 x 8, is pooled to 2 x 2 cells, and each cell is one box whose class
scores are the means of its channels. So what they must find in a picture is known by hand.
"""
import json
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


# OWL-ViT in the folder that @huggingface/transformers reads: a phrase's logit for a cell is 10 x the channel it names - 5
def zero_shot():
    folder = os.path.join(HERE, "owl")
    os.makedirs(os.path.join(folder, "onnx"), exist_ok=True)
    words = ["!", "<|startoftext|>", "<|endoftext|>", "a", "photo", "of", "red", "green", "blue"]
    table = np.zeros((len(words), 3), np.float32)
    table[6:] = np.eye(3)
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["cells", "flat_shape"], ["scores"]),
        helper.make_node("Transpose", ["scores"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"], axis=0),
        helper.make_node("ReduceSum", ["tokens", "words"], ["phrases"], keepdims=0),
        helper.make_node("Transpose", ["phrases"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "columns"], ["matched"]),
        helper.make_node("Mul", ["matched", "gain"], ["grown"]),
        helper.make_node("Add", ["grown", "bias"], ["logits"]),
        helper.make_node("Identity", ["shares"], ["pred_boxes"]),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["q", "l"]),
        helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, SIZE, SIZE]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["q", "l"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CELLS, "q"]),
        helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, [1, CELLS, 4]),
    ]
    constants = [
        flat_shape,
        numpy_helper.from_array(table, "table"),
        constant("words", [1], np.int64),
        constant("gain", [10]),
        constant("bias", [-5]),
        numpy_helper.from_array(shares, "shares"),
    ]
    graph = helper.make_graph(nodes, "owl", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    onnx.save(made, os.path.join(folder, "onnx", "model.onnx"))
    special = [
        dict(id=i, content=words[i], single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i in range(3)
    ]
    files = {
        "config": dict(model_type="owlvit", architectures=["OwlViTForObjectDetection"]),
        "preprocessor_config": dict(
            image_processor_type="OwlViTImageProcessor",
            feature_extractor_type="OwlViTFeatureExtractor",
            do_resize=True,
            size=dict(height=SIZE, width=SIZE),
            do_center_crop=False,
            do_normalize=False,
            do_rescale=True,
            rescale_factor=1 / 255,
            resample=2,
        ),
        "tokenizer_config": dict(
            tokenizer_class="CLIPTokenizer",
            model_max_length=8,
            pad_token="!",
            bos_token="<|startoftext|>",
            eos_token="<|endoftext|>",
        ),
        "tokenizer": dict(
            version="1.0",
            truncation=None,
            padding=None,
            added_tokens=special,
            normalizer=dict(type="Lowercase"),
            pre_tokenizer=dict(type="Whitespace"),
            post_processor=None,
            decoder=None,
            model=dict(type="WordLevel", vocab={word: i for i, word in enumerate(words)}, unk_token="!"),
        ),
    }
    for name, value in files.items():
        with open(os.path.join(folder, name + ".json"), "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")


zero_shot()
