"""The application as a function: Mangum makes requests of events."""

from mangum import Mangum

from app import app

handler = Mangum(app, lifespan="off")
