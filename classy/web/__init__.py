"""The HTTP API and the page, in Flask; see app.create_app. Functions import it when such a request comes."""
