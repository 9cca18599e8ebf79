import json
import os
import signal
import time
from urllib.request import Request, urlopen

url, steps, weight, taken, stop = os.environ["TRAINYARD_EVENTS_URL"], int(os.environ["STEPS"]), 0.0, 0, False
headers = {"Authorization": "Bearer " + os.environ["TRAINYARD_JOB_TOKEN"], "Content-Type": "application/json"}
signal.signal(signal.SIGTERM, lambda *_: globals().update(stop=True))
events: list[object] = []
while len(events) < steps and not stop:
    weight -= 0.1 * (weight - 3)  # a model of one weight, which is to become 3
    data = {"step": len(events) + 1, "total_steps": steps, "loss": (weight - 3) ** 2}
    events.append({"n": len(events) + 1, "type": "progress", "data": data})
    try:
        answer = json.load(urlopen(Request(url, json.dumps(events[taken : taken + 500]).encode(), headers)))
        taken, stop = answer["accepted_through"], stop or any(c["command"] == "stop" for c in answer["commands"])
    except OSError as e:  # the service is away, and is sent it again with the next step; or (410) the run is over
        stop = stop or getattr(e, "code", None) == 410
    time.sleep(0.05)  # a real one takes longer
raise SystemExit(75 if stop else 0)
