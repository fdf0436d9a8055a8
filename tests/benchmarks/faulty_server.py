"""A channel server that misbehaves on purpose, so that tests can see the load generator notice it.

    python tests/benchmarks/faulty_server.py --port N --fault drop|repeat|swap|foreign|refuse

`drop`: every 10th message never reaches the first subscriber. `repeat`: it reaches it twice. `swap`: it comes after its
successor. `foreign`: it reaches another channel too. `refuse`: every 10th post is answered with an error.
"""

import argparse
from collections import defaultdict
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect

app = FastAPI()
fault = "none"
members: dict[str, list[WebSocket]] = defaultdict(list)
held_back: list[dict[str, Any]] = []
posts = 0


async def _send(channel_id: str, message: dict[str, Any], *, faulty: bool) -> None:
    for place, websocket in enumerate(members[channel_id]):
        victim = faulty and place == 0
        if victim and fault == "drop":
            continue
        if victim and fault == "swap":
            held_back.append(message)
            continue
        await websocket.send_json(message)
        if victim and fault == "repeat":
            await websocket.send_json(message)
        if place == 0 and held_back:
            await websocket.send_json(held_back.pop())
    if faulty and fault == "foreign":
        for other in members:
            if other != channel_id and members[other]:
                await members[other][0].send_json(message)


@app.post("/api/messages")
async def post_message(post: dict[str, str]) -> dict[str, Any]:
    global posts
    warming_up = post["content"].startswith("~rq:fff")
    posts += not warming_up
    faulty = not warming_up and posts % 10 == 0
    if faulty and fault == "refuse":
        raise HTTPException(503, "refused on purpose")
    await _send(post["channel_id"], {"type": "message", "data": post}, faulty=faulty)
    return {"success": True, "message": post}


@app.websocket("/api/ws/{channel_id}")
async def channel(websocket: WebSocket, channel_id: str) -> None:
    await websocket.accept()
    members[channel_id].append(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        members[channel_id].remove(websocket)


def main() -> None:
    global fault
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", default="none")
    arguments = parser.parse_args()
    fault = arguments.fault
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
