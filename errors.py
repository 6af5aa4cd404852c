"""User errors: one clear message on screen and a non-zero exit status, never a traceback."""

import difflib
import os
import sys

import interruption
from absl import app, flags


class UserError(ValueError):
    """Something the user can put right.

    The message names the file, line, flag or variable at fault and the remedy. `run` prints it
    without a traceback and exits with status 1.
    """


def nearest(name, known):
    """Returns ' Did you mean "x"?' for the known name most like `name`, else ''."""
    matches = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return ' Did you mean "%s"?' % matches[0] if matches else ""


def half_character(text):
    """Returns what is wrong with half a surrogate pair, which JSON can spell and UTF-8 cannot.

    Returns:
        "holds half a character (...) at character N; repair the text", None for a sound text.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return "holds half a character (\\u%04x) at character %d; repair the text" % (
            ord(text[error.start]), error.start + 1)
    return None


def run(main, translate=None, positional=0):
    """Parses the flags and runs `main(argv)`; unknown flags, stray arguments and user errors exit.

    Args:
        main: function of one argument, the list of arguments left after the flags.
        translate: optional function that turns an exception into a UserError, or returns None
            where the exception is a defect of the program and deserves its traceback.
        positional: number of arguments that may stand there without being flags; None: any.
    """
    def guarded(argv):
        try:
            for argument in argv + sys.argv:
                _require_utf8(argument)
            if positional is not None and len(argv) > 1 + positional:
                raise UserError("unexpected argument %r: every setting is given as --name=value"
                                % argv[1 + positional])
            with interruption.terminable():
                return main(argv)
        except KeyboardInterrupt:
            _exit("interrupted; give the same command again to go on", 130)
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:  # noqa: BLE001 - everything unexpected is raised again
            known = _as_user_error(error) or (translate and translate(error))
            if known is None:
                raise
            _exit(str(known), 1)

    _tell_of_all_flags()
    app.run(guarded)


def _tell_of_all_flags():
    """Has --help list the flags that the project's modules define, not the script's own alone."""
    folders = (os.path.dirname(os.path.abspath(__file__)),
               os.path.dirname(os.path.abspath(sys.argv[0])))
    for name, defined in flags.FLAGS.flags_by_module_dict().items():
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and os.path.dirname(os.path.abspath(path)) in folders:
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _require_utf8(argument):
    """Refuses bytes that are no UTF-8: what TensorFlow and JSON are given must be text."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError("the argument %s is not UTF-8: rename the file or folder, or use a "
                        "terminal that works in UTF-8" % ascii(argument)) from error


def _as_user_error(error):
    """Returns the UserError for errors that any script can meet, or None."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return UserError("%s: %s" % (error.filename or "file system", error.strerror))
    return None


def _exit(message, status):
    sys.stdout.flush()
    sys.stderr.write("ERROR: %s\n" % message)
    sys.stderr.flush()
    sys.exit(status)
