"""Print as many bytes as the body says, in lines that try to forge others."""

import sys


def handler(ctx, data=None):
    wanted = int(data.getvalue())
    line = "x" * 98 + "\r\n"
    print("\x1b[31mred\x1b[0m", flush=True)
    for _ in range(wanted // len(line)):
        sys.stdout.write(line)
    sys.stdout.flush()
    sys.stderr.write("a line without its end")
    return "printed"
