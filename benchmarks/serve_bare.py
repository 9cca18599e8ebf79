"""What is compared with: aiohttp and nothing else. POST parses the JSON and answers."""

import os

from aiohttp import web


async def post_train(request: web.Request) -> web.Response:
    """Parse and answer."""
    posted = await request.json()
    return web.json_response({"job_id": posted["job_id"], "status": "queued"}, status=201)


def main() -> None:
    """Serve on the port of `BENCH_PORT`."""
    app = web.Application()
    app.add_routes([web.post("/train", post_train)])
    web.run_app(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
