"""Structured logs to stderr: JSON or console lines, folded, scrubbed, and never waited for.

`configure` is called once by the process that owns stderr; `get_logger` and the loggers may be used in any thread, before that
too (then lines go to stderr as JSON from INFO on). Never stdout: that belongs to results (`statements.md` libraries 7.1).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from hostward.report.log_fold import Fold
from hostward.report.log_lines import console_line, json_line, prepare
from hostward.report.log_writer import LogWriter

Event = MutableMapping[str, Any]
LEVELS: Final[Mapping[str, int]] = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "FATAL": 50}
_NUMBERS: Final = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "warn": 30,
    "error": 40,
    "exception": 40,
    "critical": 50,
    "fatal": 50,
}


class LogCounts(Struct, frozen=True):
    """Lines that found no room, that could not be written, and that were folded into another."""

    dropped: int
    failed: int
    folded: int


TURN: Final = "turn"  # a field of lines that begin a state, not written: folded, they would leave the other state the last word


class _Pipe:
    """What `configure` sets: level, form and writer."""

    def __init__(self, level: int, line: Callable[[Mapping[str, Any]], bytes], writer: LogWriter, fold: Fold) -> None:
        self.level = level
        self.line = line
        self.writer = writer
        self.fold = fold

    def send(self, event: Mapping[str, Any]) -> None:
        prepared = prepare(event)
        turn = prepared.pop(TURN, False)
        if not turn and _NUMBERS.get(str(event.get("level")), 20) >= 30:
            folded = self.fold.admit(json_line({k: v for k, v in prepared.items() if k != "timestamp"}))
            if folded is None:
                return
            if folded:
                prepared["repeated"] = folded
        self.writer.put(self.line(prepared))


_pipe = _Pipe(LEVELS["INFO"], json_line, LogWriter(), Fold(time.monotonic))


def _filter(_logger: object, method: str, event: Event) -> Event:
    if _NUMBERS.get(method, 20) < _pipe.level:
        raise structlog.DropEvent
    return event


def _stamp(_logger: object, method: str, event: Event) -> Event:
    now = time.time()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    head = {
        "timestamp": f"{seconds}.{int(now % 1 * 1000):03d}Z",
        "level": {"exception": "error", "warn": "warning"}.get(method, method),
    }
    return {**head, "event": event.pop("event", ""), **event}


def _send(_logger: object, _method: str, event: Event) -> str:
    _pipe.send(event)
    raise structlog.DropEvent


# Tracebacks come without local variables, which could hold secrets.
_PROCESSORS: Final = (_filter, structlog.contextvars.merge_contextvars, _stamp, structlog.processors.format_exc_info, _send)


def get_logger(**context: Any) -> FilteringBoundLogger:  # fields are whatever the event needs
    """A logger that adds `context` to each event: `log.info("what happened", field=value)`. For any thread, never raises."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=list(_PROCESSORS), wrapper_class=structlog.make_filtering_bound_logger(LEVELS["DEBUG"]), **context
    )
    return logger


class _FromStandardLogging(logging.Handler):
    """Brings what libraries log into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower() if record.levelname.lower() in _NUMBERS else "info"
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        get_logger().log(_NUMBERS[level], text, library=record.name, exc_info=record.exc_info)


def configure(level: str = "INFO", form: str = "auto", *, fd: int = 2) -> LogWriter:
    """Sets severity (as `logSeverityScreen`), form (`logFormat`) and where lines go; the writer, to be closed at exit.

    May be called again, when settings change. Also catches structlog's own loggers and, from WARNING on, standard logging.
    """
    writer = _pipe.writer
    if writer.fd != fd:
        _pipe.writer = LogWriter(fd)
        writer.close()
    console = form == "console" or (form == "auto" and _is_terminal(fd))
    _pipe.line = console_line if console else json_line
    _pipe.level = LEVELS[level]
    structlog.configure(
        processors=list(_PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["DEBUG"]),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _FromStandardLogging)] + [
        _FromStandardLogging(logging.WARNING)
    ]
    return _pipe.writer


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def flush() -> None:
    """Waits a moment until what was logged is written."""
    _pipe.writer.flush()


def counts() -> LogCounts:
    """What was lost on the way since the process started."""
    return LogCounts(_pipe.writer.dropped, _pipe.writer.failed, _pipe.fold.folded)
