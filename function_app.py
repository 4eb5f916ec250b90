"""Entry of the Functions app: the REST API behind one catch-all HTTP function, timers and queues as a blueprint.

It sits in the root because the Functions worker accepts no other place; everything else is in `functions/`.
"""

import azure.functions as func

from functions.provider import http_app
from functions.triggers import blueprint

app = func.AsgiFunctionApp(app=http_app, http_auth_level=func.AuthLevel.ANONYMOUS, function_name="http")
app.register_functions(blueprint)
