"""An ordinary web application, which knows nothing of events."""

import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

app = FastAPI()


@app.get("/items/{item}")
def item(item: str, request: Request, tags: str = ""):
    return {"item": item, "tags": tags, "agent": request.headers.get("user-agent"), "client": request.client.host}


@app.post("/items", status_code=201)
async def create(request: Request):
    answer = JSONResponse({"made": await request.json()}, status_code=201)
    answer.set_cookie("one", "1")
    answer.set_cookie("two", request.cookies.get("two", ""))
    return answer


@app.put("/bytes")
async def turned(request: Request):
    body = await request.body()
    return Response(body[::-1], media_type="application/octet-stream")


@app.get("/old")
def old():
    return RedirectResponse("/items/new")


@app.get("/broken")
def broken():
    raise RuntimeError("broken")


@app.get("/drips")
def drips():
    async def written():
        yield "one "
        await asyncio.sleep(1)
        yield "two"

    return StreamingResponse(written(), media_type="text/plain")
