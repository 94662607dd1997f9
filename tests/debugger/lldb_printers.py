# lldb_printers.py: Tensor, View and Shape in lldb, as gdb_printers.py shows them in gdb (which also knows
# Call, Record and Attr: the tour of notebooks/DEBUGGING.md is for gdb).
#
#     lldb -o "command script import tests/debugger/lldb_printers.py" -- build/debug/deepseek train ...
#
#     (lldb) breakpoint set --name mla
#     (lldb) frame variable
#     (Tensor) c_Q = rmsnorm (1,8,24) [-2.535 -0.6669 0.8949 -0.142 -0.607 -0.7627 ...] rms 1
#
# Needs lldb's Python (Debian: python3-lldb). If `script print(1)` fails in lldb, Python must be told where its
# module is:  PYTHONPATH=/usr/lib/llvm-14/lib/python3.11/dist-packages lldb ...
import os
import struct
import sys

import lldb

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gdb_printers import LARGEST, MAGIC, numbers_text, shape_text     # noqa: E402


def integer(value, name):
    return value.GetChildMemberWithName(name).GetValueAsUnsigned()


def sizes_of(shape):
    rank = integer(shape, "rank")
    sizes = shape.GetChildMemberWithName("d")
    return [sizes.GetChildAtIndex(i).GetValueAsUnsigned() for i in range(rank)] if rank <= 4 else None


def numbers(value, pointer, sizes, is_integer):
    real = value.GetTarget().FindFirstType("real").GetCanonicalType().GetByteSize()
    code = "i" if is_integer else "d" if real == 8 else "f"
    total, size = 1, struct.calcsize(code)
    for n in sizes:
        total *= n
    error = lldb.SBError()
    wanted = min(total * size, LARGEST // size * size)
    raw = value.GetProcess().ReadMemory(pointer, wanted, error) if wanted else b""
    return numbers_text(raw, code, total) if error.Success() or not wanted else "(on another device)"


def shape_summary(value, _):
    sizes = sizes_of(value)
    return shape_text(sizes if sizes is not None else ["?"])


def tensor_summary(value, _):
    handle = value.GetNonSyntheticValue()
    if integer(handle, "s") == 0:
        return "(none)"
    storage = handle.GetChildMemberWithName("s").Dereference()
    sizes = sizes_of(handle.GetChildMemberWithName("shape"))
    if integer(storage, "magic") != MAGIC or sizes is None:
        return "(not yet computed)"
    name = (storage.GetChildMemberWithName("name").GetSummary() or "").strip('"')
    text = numbers(handle, integer(storage, "data"), sizes, integer(storage, "type") == 1)
    return " ".join([name, shape_text(sizes), text]).strip()


def view_summary(value, _):
    view = value.GetNonSyntheticValue()
    sizes = sizes_of(view.GetChildMemberWithName("shape"))
    if integer(view, "p") == 0 or sizes is None:
        return "null"
    return shape_text(sizes) + " " + numbers(view, integer(view, "p"), sizes, integer(view, "type") == 1)


def __lldb_init_module(debugger, _):
    for name in ("Tensor", "View", "Shape"):
        function = "%s.%s_summary" % (__name__, name.lower())
        debugger.HandleCommand("type summary add --no-value --python-function %s %s" % (function, name))
