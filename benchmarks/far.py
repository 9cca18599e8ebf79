"""A port at which what listens at another one is some milliseconds away, a process of its own.

`python -m benchmarks.far '{"port": …, "to": …, "milliseconds": 10}'` runs until it is ended.
"""

import asyncio
import json
import sys

_READ_BYTES = 1 << 16


async def serve(port: int, to: int, milliseconds: float) -> None:
    """Pass everything on, half of the time later on each of the two ways; a connection is there at once."""
    late = milliseconds / 2e3
    loop = asyncio.get_running_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_READ_BYTES):
                loop.call_later(late, writer.write, data)
        except OSError:
            pass  # its other end sees the same
        loop.call_later(late, writer.close)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))

    server = await asyncio.start_server(passed, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
