# The same file in each function's folder, because a function's build context is its own folder.
# `make bundle` fills bundle/ for the Python of Fn's own images. Another base, with glibc 2.28 or newer, libstdc++, zlib
# and ca-certificates, as all the usual ones have:
#   make bundle BUNDLE_PYTHON=3.11 && fn deploy … --build-arg BASE=python:3.11-slim
ARG BASE=fnproject/python:3.12

FROM ${BASE} AS compiled
COPY bundle/ /bundle/
RUN python3 /bundle/compile_in_image.py /bundle/function

FROM ${BASE}
# Oracle Functions want a user of this number; Fn's own images have one.
RUN getent passwd 1000 >/dev/null || { groupadd --gid 1000 fn && useradd --uid 1000 --gid fn --no-create-home fn; }
COPY --from=compiled /bundle/function /function
WORKDIR /function
USER 1000:1000
# Unbuffered: a line of the log belongs to the call that printed it. Official builds of onnxruntime report to Microsoft
# and keep a device's id unless told not to.
ENV PYTHONPATH=/function/packages PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
ENTRYPOINT ["python3", "/function/start.py", "/function/func.py", "handler"]
