"""`crane bench`: how fast a model runs here, beside what the memory allows and beside other programs.

Each side, Crane among them, is a process of its own that answers in the words of `serve`; `rounds` asks them in turn.
"""
