#!/usr/bin/env python3
"""Requests to Web.cs at 127.0.0.1:5080 from two connections, for so many seconds. usage: load.py SECONDS"""
import http.client, json, sys, threading, time

until = time.time() + float(sys.argv[1])
body = json.dumps([{'id': i, 'name': f'item{i}', 'price': i * 1.5} for i in range(60)])


def work():
    c = http.client.HTTPConnection('127.0.0.1', 5080, timeout=10)
    while time.time() < until:
        c.request('GET', '/items/200')
        c.getresponse().read()
        c.request('POST', '/sum', body, {'content-type': 'application/json'})
        c.getresponse().read()


threads = [threading.Thread(target=work) for _ in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
