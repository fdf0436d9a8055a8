"""FastAPI's `ConnectionManager` (from its WebSocket tutorial) as a channel server, with posts over REST.

The server that RAQCOON replaces was built like this: everything in memory, no GraphQL, a list of sockets for each
channel, and one `send_json` for each socket.
"""

import argparse
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel


class Post(BaseModel):
    channel_id: str
    author: str
    content: str
    lane: str | None = None
    provider: str | None = None
    token_count: int | None = None


class ConnectionManager:
    def __init__(self) -> None:
        self.active: dict[str, list[WebSocket]] = defaultdict(list)

    async def connect(self, channel_id: str, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active[channel_id].append(websocket)

    def disconnect(self, channel_id: str, websocket: WebSocket) -> None:
        self.active[channel_id].remove(websocket)

    async def broadcast(self, channel_id: str, message: dict[str, Any]) -> None:
        for websocket in list(self.active[channel_id]):
            await websocket.send_json(message)


app = FastAPI()
manager = ConnectionManager()
messages: list[dict[str, Any]] = []


@app.post("/api/messages")
async def post_message(post: Post) -> dict[str, Any]:
    item = {**post.model_dump(), "timestamp": datetime.now(UTC).isoformat()}
    messages.append(item)
    await manager.broadcast(post.channel_id, {"type": "message", "data": item})
    return {"success": True, "message": item}


@app.websocket("/api/ws/{channel_id}")
async def channel(websocket: WebSocket, channel_id: str) -> None:
    await manager.connect(channel_id, websocket)
    try:
        while True:
            await websocket.receive_json()
    except WebSocketDisconnect:
        manager.disconnect(channel_id, websocket)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
