#!/usr/bin/env python3
"""usage: embed.py OUT.c PAGE.html STYLE.css SCRIPT.js..

Puts style and scripts into the page and writes it as C text in three parts: up to the title, up to the data, the rest.
The page allows only the script and the style with these hashes to run (Content-Security-Policy, level 2).
"""
import base64
import hashlib
import sys


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def digest(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def array(name, text):
    data = text.encode() + b'\0'
    lines = [', '.join(str(byte) for byte in data[i:i + 24]) for i in range(0, len(data), 24)]
    body = ',\n\t'.join(lines)
    return f'const char {name}[] = {{\n\t{body}\n}};\n'


def main():
    out, page, style, *scripts = sys.argv[1:]
    style = '\n' + read(style)
    script = "\n'use strict';\n(() => {\n" + '\n'.join(read(path) for path in scripts) + '})();\n'
    for text, end in (style, '</style'), (script, '</script'), (script, '<!--'):
        if end in text.lower():
            sys.exit(f'{end} would end its element')
    text = read(page)
    for mark, value in ('@STYLE_HASH@', digest(style)), ('@SCRIPT_HASH@', digest(script)), ('@STYLE@', style), ('@SCRIPT@', script):
        text = text.replace(mark, value)
    before_title, rest = text.split('@TITLE@')
    before_data, after_data = rest.split('@DATA@')
    with open(out, 'w', encoding='ascii') as file:
        file.write('#include "output/html_priv.h"\n\n')
        file.write('\n'.join([array('html_before_title', before_title), array('html_before_data', before_data),
                              array('html_after_data', after_data)]))


main()
