"""Software prefetch for compiled loops: the processor loads memory while other work goes on."""

from typing import Any

from llvmlite import ir

from lamella.pipeline.compiled import numba


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def fetch(typing: Any, array: Any, place: Any) -> Any:
    """Prefetch the cache line (64 bytes) of an index of an array (n,), without waiting.

    An index outside is no error: processors ignore such a prefetch. It changes no result, so
    compiled functions may call it from another file, although numba's cache only tracks their own
    file.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        wish = numba.core.cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(wish, [address, number(0), number(3), number(1)])  # read, keep, data
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.int64), generate
