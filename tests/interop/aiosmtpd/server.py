"""A second server for the tests: aiosmtpd unchanged, with users, a catch-all domain and a full mailbox.

It offers no PIPELINING, so that each command waits for its reply. It prints its port, and ends with its standard input.
"""

import asyncio
import json
import logging
import sys

from aiosmtpd.smtp import SMTP


class Directory:
    def __init__(self, users, catch_all, refused):
        self.users, self.catch_all, self.refused = set(users), set(catch_all), refused

    async def handle_RCPT(self, server, session, envelope, address, options):
        address = address.lower()
        local, _, domain = address.rpartition("@")
        if address in self.refused:
            return self.refused[address]
        if domain not in self.catch_all and local.partition("+")[0] + "@" + domain not in self.users:
            return f"550 5.1.1 <{address}>: no such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"


async def main():
    config = json.loads(sys.stdin.readline())
    directory = Directory(config["users"], config["catch_all"], config["refused"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            directory,
            hostname="mx1.interop.test",
            enable_SMTPUTF8=True,
            loop=loop,
            command_call_limit=config["command_call_limit"],
        ),
        host="127.0.0.1",
        port=0,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        # Standard input ends when the parent process ends.
        await loop.run_in_executor(None, sys.stdin.read)


# The log would warn of each client that reaches a limit, which one of the tests does on purpose.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)
asyncio.run(main())
