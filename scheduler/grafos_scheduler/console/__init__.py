"""The web console at ``/admin/stats``: what an operator sees of the fleet, its money and its security, in a browser.

``sessions`` says who may look, ``sight`` and ``money`` what there is to see, ``pages`` how it looks, ``watching`` keeps
it fresh for everybody who looks at once, and ``app`` has the routes. It only reads: nothing can be changed here.
"""
