"""Headless Chromium at the end of a pipe (--remote-debugging-pipe): what it draws, and what it does with keys and mouse."""
import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time


def find():
    return next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), None)


class Chrome:
    """A browser with one page. Messages are JSON, each ended by a NUL; we write descriptor 3, and read 4."""

    def __init__(self, width=1280, height=800):
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (to_read, from_write)]
        self.folder = tempfile.mkdtemp(prefix='ringfold-chrome-')
        self.process = subprocess.Popen(
            [find(), '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars',
             '--no-first-run', '--disable-extensions', '--disable-background-networking', '--remote-debugging-pipe',
             f'--user-data-dir={self.folder}', f'--window-size={width},{height}', 'about:blank'],
            preexec_fn=lambda: (os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)), close_fds=False, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (to_read, from_write, *theirs):
            os.close(fd)
        self.pipe_in, self.pipe_out, self.rest = to_write, from_read, b''
        self.last_id, self.session, self.said = 0, None, []
        target = self.send('Target.createTarget', url='about:blank')['targetId']
        self.session = self.send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Runtime', 'Log', 'Page', 'Network'):
            self.send(domain + '.enable')
        self.send('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self):
        """Ends the browser and all it started, which are a process group of their own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.pipe_in)
        os.close(self.pipe_out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self):
        while b'\0' not in self.rest:
            if not select.select([self.pipe_out], [], [], 90)[0]:
                raise TimeoutError('the browser says nothing')
            data = os.read(self.pipe_out, 1 << 20)
            if not data:
                raise EOFError('the browser has gone')
            self.rest += data
        message, _, self.rest = self.rest.partition(b'\0')
        return json.loads(message)

    def send(self, method, **params):
        self.last_id += 1
        message = {'id': self.last_id, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.pipe_in, json.dumps(message).encode() + b'\0')
        while True:
            answer = self.receive()
            if answer.get('id') == self.last_id:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']
            self.said.append(answer)

    def js(self, expression):
        answer = self.send('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in answer:
            raise RuntimeError(f'{expression}: {answer["exceptionDetails"]}')
        return answer['result'].get('value')

    def open(self, path):
        self.said.clear()
        self.send('Page.navigate', url='file://' + os.path.abspath(path))
        while not any(message.get('method') == 'Page.loadEventFired' for message in self.said):
            self.said.append(self.receive())  # asking meanwhile would have it draw what there is each time

    def wait(self, expression, seconds=30):
        end = time.monotonic() + seconds
        while not self.js(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.02)

    def complaints(self):
        """Exceptions, refusals by the page's policy, and what was printed."""
        return [message for message in self.said
                if message.get('method') in ('Runtime.exceptionThrown', 'Log.entryAdded', 'Runtime.consoleAPICalled')]

    def requests(self):
        return [message['params']['request']['url'] for message in self.said if message.get('method') == 'Network.requestWillBeSent']

    def mouse(self, kind, x, y, **more):
        self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, **more)

    def click(self, x, y):
        self.mouse('mouseMoved', x, y)
        self.mouse('mousePressed', x, y, button='left', clickCount=1)
        self.mouse('mouseReleased', x, y, button='left', clickCount=1)

    def drag(self, x0, x1, y):
        self.mouse('mouseMoved', x0, y)
        self.mouse('mousePressed', x0, y, button='left', buttons=1, clickCount=1)
        for i in range(1, 9):
            self.mouse('mouseMoved', x0 + (x1 - x0) * i / 8, y, button='left', buttons=1)
        self.mouse('mouseReleased', x1, y, button='left', clickCount=1)

    def key(self, key, text='', modifiers=0):
        codes = {'Enter': 13, 'Escape': 27, 'Backspace': 8, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}
        more = {'windowsVirtualKeyCode': codes[key]} if key in codes else {'text': text or key}
        self.send('Input.dispatchKeyEvent', type='keyDown', key=key, modifiers=modifiers, **more)
        self.send('Input.dispatchKeyEvent', type='keyUp', key=key, modifiers=modifiers)

    def type(self, text):
        for char in text:
            self.key(char)

    def cpu_ms(self):
        """CPU time so far of the threads that run pages: what others do on the machine does not count."""
        total = 0
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if os.getpgid(int(pid)) != self.process.pid:
                    continue
                with open(f'/proc/{pid}/cmdline') as f:
                    if '--type=renderer' not in f.read():
                        continue
                with open(f'/proc/{pid}/task/{pid}/schedstat') as f:
                    total += int(f.read().split()[0])
            except OSError:
                pass
        return total / 1e6

    def screenshot(self, path):
        with open(path, 'wb') as file:
            file.write(base64.b64decode(self.send('Page.captureScreenshot', format='png')['data']))
