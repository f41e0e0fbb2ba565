# The tutorial's way: Flask, one INCR a visit, five retries of half a second. Run by Gunicorn with four workers.
import os
import time

import redis
from flask import Flask

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


def count_hit():
    retries = 5
    while True:
        try:
            return cache.incr("hits")
        except redis.exceptions.ConnectionError:
            if retries == 0:
                raise
            retries -= 1
            time.sleep(0.5)


@app.route("/")
def hello():
    return f"I've been seen {count_hit()} times.\n", {"Content-Type": "text/plain; charset=utf-8"}
