"""How a peer answers: one JSON question a line on stdin, one JSON answer a line on stdout."""

import json
import os
import sys
import traceback


def answer_all(answer):
    """answer(question) -> answer, both dictionaries. What it raises is an answer too: other checks go on."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr; stdout is for answers
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {str(error).strip()[-1500:]}"}
        print(json.dumps(reply), file=replies, flush=True)
