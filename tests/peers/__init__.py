"""Other implementations, as servers for our client and as clients of our server: one conversation, the same with all.

The client offers the subprotocols "other" and "chat", and the server chooses "chat". Every message comes back, but a
text of these is a command to the server:

    !fragments  answer with the text "fragments", in two frames if the implementation can
    !ping       ping, and answer with the text "pong" once the pong is there
    !close      close with 4002 and "theirs"

The client sends MESSAGES, then the text "fragments" (in two frames if it can), "!fragments", "!ping", and a ping with
the payload "ping". Then it closes with 4001 and "ours", or has the server close.

Each module has the same two functions: `serving` is such a server, `talk` such a client.
"""
