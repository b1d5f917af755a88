"""A FastCGI client of our own, for what nginx would never do."""

import socket


def record(kind, content=b"", request_id=1, padding=0, version=1):
    header = bytes([version, kind]) + request_id.to_bytes(2, "big") + len(content).to_bytes(2, "big") + bytes([padding, 0])
    return header + content + b"\xee" * padding


def begin(request_id=1, role=1, keep=1, padding=0):
    return record(1, bytes([0, role, keep, 0, 0, 0, 0, 0]), request_id, padding)


def pairs(values, long=False):
    """Name-value pairs, in their shortest form or with all lengths in four bytes."""
    def length(text):
        return (len(text) | 1 << 31).to_bytes(4, "big") if long or len(text) > 127 else bytes([len(text)])

    encoded = [(name.encode(), value.encode()) for name, value in values.items()]
    return b"".join(length(name) + length(value) + name + value for name, value in encoded)


def variables(path, method="GET", query="", body=b"", content_type="", **more):
    length = str(len(body)) if body else ""
    return more | {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": content_type, "CONTENT_LENGTH": length}


def fastcgi(path, method="GET", query="", body=b"", keep=1, content_type="", **more):
    """A whole request, as nginx sends it."""
    params = pairs(variables(path, method, query, body, content_type, **more))
    bodies = b"".join(record(5, body[i:i + 60000]) for i in range(0, len(body), 60000))
    return begin(keep=keep) + record(4, params) + record(4) + bodies + record(5)


def connect(stack, mode):
    return connect_to(stack.path(f"run/{mode}.sock"))


def connect_to(path):
    client = socket.socket(socket.AF_UNIX)
    # Connected before there is a time limit: with one, a full listen queue is an error and not a wait (unix(7), EAGAIN).
    client.connect(path)
    client.settimeout(30)
    return client


def status_first(whole):
    """An answer with its status in front, wherever among the fields that stands: so it is read most easily."""
    head, end, body = whole.partition(b"\r\n\r\n")
    lines = sorted(head.split(b"\r\n"), key=lambda line: not line.startswith(b"Status: "))
    return b"\r\n".join(lines) + end + body


def answer(client):
    """What `stdout` has, with the status in front."""
    return status_first(stdout(client))


def stdout(client):
    """STDOUT up to END_REQUEST."""
    out, data = b"", client.makefile("rb")
    while True:
        header = data.read(8)
        assert len(header) == 8, f"the connection ended after {out!r}"
        content = data.read(int.from_bytes(header[4:6], "big"))
        data.read(header[6])
        if header[1] == 6:
            out += content
        elif header[1] == 3:
            return out


def records(client):
    """(type, request id, content) of what comes."""
    data = client.makefile("rb")
    while header := data.read(8):
        length = int.from_bytes(header[4:6], "big")
        yield header[1], int.from_bytes(header[2:4], "big"), data.read(length + header[6])[:length]


def with_id(whole, request_id):
    """The same records for another request."""
    out, at = b"", 0
    while at < len(whole):
        length = int.from_bytes(whole[at + 4:at + 6], "big")
        out += whole[at:at + 2] + request_id.to_bytes(2, "big") + whole[at + 4:at + 8 + length]
        at += 8 + length
    return out


def one_answer(stream):
    """The next request's id and STDOUT."""
    content = {}
    for kind, request_id, piece in stream:
        if kind == 6:
            content[request_id] = content.get(request_id, b"") + piece
        if kind == 3:
            return request_id, content.get(request_id, b"")
    raise AssertionError(f"the connection ended after {content}")


class Clients:
    """Many who ask for the same at once, each over a connection of its own."""

    def __init__(self, stack, path, count, **fields):
        self.clients = [connect(stack, "async") for _ in range(count)]
        for client in self.clients:
            client.sendall(fastcgi(path, **fields))

    def answers(self):
        return [answer(client) for client in self.clients]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
