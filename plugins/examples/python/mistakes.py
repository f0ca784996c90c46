"""Unintended failures of Python code. The host's tests check the error message of each."""

import sys

from wit_world.imports import wasi_config_store as config


class StockError(Exception):
    pass


def make(name: str):
    match name:
        case "key-error":
            return {}["nothing here"]
        case "own-error":
            raise StockError("no bolts left")
        case "two-lines":
            raise ValueError("first line\nsecond line")
        case "chained":
            try:
                {}["nothing here"]
            except KeyError as error:
                raise StockError("no bolts left") from error
        case "assertion":
            assert name == "", "stock is negative"
        case "group":
            raise ExceptionGroup("two problems", [KeyError("nothing here"), ValueError("no number")])
        case "recursion":
            return make(name)
        case "exit":
            sys.exit("out of paper")
        case "exit-code":
            sys.exit(3)
        case "wrong-type":
            return 42
        case "bad-name":
            return config.get(7)
    raise NotImplementedError(name)
