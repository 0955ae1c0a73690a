# SPDX-License-Identifier: MIT
"""Work for python3 and what it links to: see everything.c."""
import collections
import decimal
import hashlib
import hmac
import json
import random
import re
import ssl
import sys
import threading
import unittest


class Case(unittest.TestCase):
    def test_sorting(self):
        numbers = list(range(2000))
        random.Random(1).shuffle(numbers)
        self.assertEqual(sorted(numbers), list(range(2000)))

    def test_exceptions(self):
        def deep(n):
            if n == 0:
                raise KeyError("deep")
            return deep(n - 1) + 1
        for _ in range(20):
            with self.assertRaises(KeyError):
                deep(200)

    def test_text(self):
        words = re.findall(r"[a-z]+", "the quick brown fox " * 500)
        self.assertEqual(collections.Counter(words)["fox"], 500)


def generator(n):
    for i in range(n):
        yield {"number": i, "text": f"{i:>8}", "list": [i, [i]], "real": i / 7}


def hashes():
    data = b"some bytes " * 1000
    for name in sorted(hashlib.algorithms_guaranteed):
        h = hashlib.new(name, data)
        print(name, h.hexdigest(16) if name.startswith("shake") else h.hexdigest())
    print(hmac.digest(b"key", data, "sha256").hex())
    print(hashlib.pbkdf2_hmac("sha512", b"password", b"salt", 500).hex())
    print(hashlib.scrypt(b"password", salt=b"salt", n=256, r=8, p=1).hex())
    context = ssl.create_default_context()
    print(len(context.get_ciphers()) > 10)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="example.com")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        print("hello of", outgoing.pending > 100)


def main():
    print("ready", flush=True)
    sys.stdin.readline()
    result = unittest.TextTestRunner(stream=open("/dev/null", "w")).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(Case))
    print(result.testsRun, len(result.failures), len(result.errors))
    text = json.dumps(list(generator(2000)))
    print(len(text), json.loads(text)[77]["text"], hashlib.md5(text.encode()).hexdigest())
    decimal.getcontext().prec = 200
    print(decimal.Decimal(2).sqrt())
    print(sum(3 ** n % 1000007 for n in range(300)))
    out = []
    threads = [threading.Thread(target=lambda k=k: out.append(sum(range(k * 1000)))) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(sorted(out))
    hashes()
    print("done", flush=True)
    sys.stdin.readline()


main()
