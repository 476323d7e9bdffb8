"""The verb `doctor`: is this host protected, and what mends it where it is not."""

import argparse
import asyncio
import sys

from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.doctor_changes import apply, undo
from postfix_mtasts.commands.doctor_look import Looked, look
from postfix_mtasts.commands.doctor_words import describe
from postfix_mtasts.commands.failure import ExitStatus
from postfix_mtasts.commands.terminal import paint_for, result, result_json
from postfix_mtasts.core.diagnosis import build_document, needs_mending


def run(args: argparse.Namespace) -> int:
    """Look, and change main.cf if ``args.apply`` or ``args.undo`` says so; return the status."""
    if args.undo:
        return undo()
    source = Source.from_arguments(args)
    looked = _look(source)
    if args.apply and apply(looked.diagnoses, looked.setups, ask=not args.yes):
        looked = _look(source)  # whether that has mended it
    return _show(looked, as_json=args.json)


def _look(source: Source) -> Looked:
    return asyncio.run(look(source.load(), source.path))


def _show(looked: Looked, *, as_json: bool) -> ExitStatus:
    if as_json:
        result_json(build_document(looked.diagnoses))
    else:
        for line in describe(looked.diagnoses, paint_for(sys.stdout)):
            result(line)
    return ExitStatus.WRONG if needs_mending(looked.diagnoses) else ExitStatus.WELL
