# gdb_printers.py: tensors as a reader of the papers wants to see them. gdb runs this file:
#
#     gdb -x tests/debugger/gdb_printers.py --args build/debug/deepseek train --preset v3-nano --steps 1
#
#     (gdb) info locals
#     c_KV = rmsnorm (1,8,16) [0.5322 0.9343 -0.08257 1.469 -0.5958 -0.1251 ...] rms 1
#     k_C = (not yet computed)
#     (gdb) print tape[7]
#     $1 = matmul: x rmsnorm (1,8,32), W blocks.0.mla.W_DKV (16,32) -> y matmul (1,8,16)
#
# A tensor shows its name (a weight's own, otherwise that of the op that made it), its shape, its first
# numbers and their root mean square; View, Shape, Call, Record and Attr are shown in the same spirit.
# `print/r` shows them raw. notebooks/DEBUGGING.md is a tour. What stands before [2] knows nothing of gdb;
# lldb_printers.py uses it too.
import os
import re
import struct

MAGIC = 0xDEE95EEC        # Storage::magic: a tensor, and not what was on the stack before
SHOWN = 6                 # numbers of a tensor
LARGEST = 1 << 22         # bytes read for the root mean square


# ------------------------------------------------------------------------------- [1] bytes become words
def shape_text(sizes):
    return "(" + ",".join(str(n) for n in sizes) + ")"


def numbers_text(raw, code, total):
    """raw: the first bytes of a tensor; code: f, d or i; total: how many numbers it has."""
    numbers = struct.unpack("=%d%s" % (len(raw) // struct.calcsize(code), code), raw)
    first = " ".join(("%d" if code == "i" else "%.4g") % x for x in numbers[:SHOWN])
    text = "[%s%s]" % (first, " ..." if total > SHOWN else "")
    if code != "i" and numbers and len(numbers) == total:
        text += " rms %.3g" % (sum(x * x for x in numbers) / len(numbers)) ** 0.5
    return text


def default_attributes(header):
    """name -> default, from the list in src/tensor/call.h that makes the struct Attr."""
    found = {}
    with open(header) as file:
        for line in file:
            row = re.match(r'\s*X\((int|real|double),\s*(\w+),\s*([-\d.e]+),\s*"', line)
            if row:
                found[row.group(2)] = float(row.group(3))
    return found


def signature_names(signature):
    """ "x g? -> y r'" -> [x, g], [y, r] """
    before, after = signature.split("->")
    clean = [[word.rstrip("?!'") for word in side.split()] for side in (before, after)]
    return clean[0], clean[1]


try:
    import gdb
    import gdb.printing
except ImportError:
    gdb = None


# ------------------------------------------------------------------------------------------- [2] in gdb
def read(address, size):
    return gdb.selected_inferior().read_memory(address, size).tobytes()


def code_of(type_value):
    if int(type_value) == 1:
        return "i"
    return "d" if gdb.lookup_type("real").sizeof == 8 else "f"


def shape_of(shape):
    rank = int(shape["rank"])
    return [int(shape["d"][i]) for i in range(rank)] if 0 <= rank <= 4 else None


def data_text(pointer, sizes, code):
    total = 1
    for n in sizes:
        total *= n
    size = struct.calcsize(code)
    try:
        raw = read(int(pointer), min(total * size, LARGEST // size * size))
    except gdb.MemoryError:
        return "(on another device)"
    return numbers_text(raw, code, total)


def storage_of(tensor):
    """None: the handle is empty. Raises gdb.error if it points to no tensor."""
    if int(tensor["s"]) == 0:
        return None
    storage = tensor["s"].dereference()
    if int(storage["magic"]) != MAGIC or int(storage["refs"]) < 1:
        raise gdb.error("no tensor")
    return storage


def declared_later(value):
    """A local whose line is still to come: what stands there is a leftover, however good it looks."""
    try:
        frame = gdb.selected_frame()
        line, block = frame.find_sal().line, frame.block()
        while block is not None and not block.is_global and not block.is_static:
            for symbol in block:
                later = symbol.is_variable and symbol.line >= line
                if later and symbol.value(frame).address == value.address:
                    return True
            block = None if block.function else block.superblock
    except (gdb.error, RuntimeError):                    # not stopped, or no debug information
        pass
    return False


def tensor_text(tensor, with_numbers=True):
    if declared_later(tensor):
        return "(not yet computed)"
    try:
        sizes = shape_of(tensor["shape"])
        storage = storage_of(tensor)
        if storage is None:
            return "(none)"
        total = 1
        for n in sizes:
            total *= n
        if total != int(storage["n"]):
            return "(not yet computed)"
        text = storage["name"].string() + " " + shape_text(sizes)
        if with_numbers:
            text += " " + data_text(storage["data"], sizes, code_of(storage["type"]))
        return text.strip()
    except (gdb.error, TypeError, UnicodeDecodeError):   # what an uninitialised local points to is anybody's
        return "(not yet computed)"


def view_text(view, with_numbers=True):
    if int(view["p"]) == 0:
        return "null"
    sizes = shape_of(view["shape"])
    if sizes is None:
        return "(not yet computed)"
    text = shape_text(sizes)
    return text + " " + data_text(view["p"], sizes, code_of(view["type"])) if with_numbers else text


def words_of(text):                                      # of a std::string
    return text["_M_dataplus"]["_M_p"].string()


def op_of(call):
    """name, signature, names of the attributes; from the program's table of ops."""
    op = gdb.parse_and_eval("ops")["_M_impl"]["_M_start"][int(call["op"])]
    return op["name"].string(), words_of(op["signature"]), words_of(op["attributes"])


USUAL = {}


def usual_attributes():
    if not USUAL:
        source = gdb.lookup_global_symbol("tape").symtab.fullname()          # .../src/tensor/tape.cpp
        USUAL.update(default_attributes(os.path.join(os.path.dirname(source), "call.h")))
    return USUAL


def attributes_text(attributes, names=None):
    usual = usual_attributes()
    words = []
    for name in names if names is not None else [field.name for field in attributes.type.fields()]:
        value = "%.6g" % float(attributes[name])
        if value != "%.6g" % usual.get(name, float("nan")):
            words.append("%s=%s" % (name, value))
    return " ".join(words)


def operands_text(names, array, count, text_of):
    words = [(name, text_of(array[i], False)) for i, name in enumerate(names) if i < count]
    return ", ".join(name + " " + text for name, text in words if text not in ("null", "(none)"))


def call_text(call, text_of):
    name, signature, attributes = op_of(call)
    inputs, outputs = signature_names(signature)
    text = name + ": " + operands_text(inputs, call["in"], int(call["n_in"]), text_of)
    if outputs:
        text += " -> " + operands_text(outputs, call["out"], int(call["n_out"]), text_of)
    if text_of is view_text:                             # in a backward: whose gradients are wanted
        wanted = ["d" + name for i, name in enumerate(inputs) if int(call["din"][i]["p"])]
        text += "   wants " + " ".join(wanted) if wanted else ""
    extra = attributes_text(call["a"], attributes.split())
    return text + ("   " + extra if extra else "")


TEXTS = {
    "Tensor": tensor_text,
    "View": view_text,
    "Shape": lambda shape: shape_text(shape_of(shape) or ["?"]),
    "Attr": lambda attributes: attributes_text(attributes) or "(defaults)",
    "Call": lambda call: call_text(call, view_text),
    "Record": lambda record: call_text(record, tensor_text),
}


class Printer:
    def __init__(self, text, value):
        self.text, self.value = text, value

    def to_string(self):
        return self.text(self.value)


def find_printer(value):
    kind = value.type.strip_typedefs()
    if kind.code in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
        value = value.referenced_value()
        kind = value.type.strip_typedefs()
    text = TEXTS.get(kind.unqualified().name or "")
    return Printer(text, value) if text else None


if gdb is not None:
    find_printer.name, find_printer.enabled = "deepseek", True
    gdb.pretty_printers[:] = [p for p in gdb.pretty_printers if getattr(p, "name", "") != "deepseek"]
    gdb.pretty_printers.insert(0, find_printer)
    gdb.execute("set print frame-arguments scalars")
