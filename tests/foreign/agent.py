# Calls an API again and again with what `certbind agent --dir` keeps, until there is a file `stop`; says how often.
import http.client
import os
import ssl
import time
from urllib.parse import urlsplit


def call(folder, ca, url):
    # One look: the three files behind it belong together, whatever is renewed meanwhile.
    look = os.path.join(folder, os.readlink(os.path.join(folder, "..data")))
    with open(os.path.join(look, "token")) as file:
        token = file.read()
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(os.path.join(look, "tls.crt"), os.path.join(look, "tls.key"))
    connection = http.client.HTTPSConnection(urlsplit(url).netloc, context=context)
    connection.request("GET", urlsplit(url).path, headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse().status


calls = 0
while not os.path.exists("stop"):
    status = call(os.environ["TOKEN_DIR"], os.environ["CERTBIND_CA"], os.environ["API"])
    assert status == 200, status
    calls += 1
    time.sleep(0.02)
print(calls)
