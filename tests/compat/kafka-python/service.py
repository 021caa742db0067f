"""The services that kafka-python's fixtures ask for, which its source archive leaves out.

The fixtures start a broker through scripts in KAFKA_ROOT and wait for a line of its log, or use a broker that runs
already (KAFKA_URI).
"""

import os
import re
import signal
import subprocess
import tempfile
import time


class ExternalService:
    """A broker that somebody else started and will end."""

    def __init__(self, host, port):
        self.host = host
        self.port = port

    def dump_logs(self):
        pass

    def stop(self):
        pass


class SpawnedService:
    """A process with its output in a file."""

    def __init__(self, args, env):
        self._args = args
        self._env = env
        self._process = None
        self._output = tempfile.NamedTemporaryFile(prefix="service-", suffix=".log")

    def start(self):
        self._process = subprocess.Popen(
            self._args, env=self._env, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True)

    def _text(self):
        with open(self._output.name, errors="replace") as file:
            return file.read()

    def wait_for(self, pattern, timeout):
        """Whether a line of the output matches before the time is over or the process ends."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if re.search(pattern, self._text()):
                return True
            if self._process.poll() is not None:
                return False
            time.sleep(0.1)
        return False

    def dump_logs(self):
        print(self._text()[-16384:])

    def stop(self):
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
