# An image that serves the default model on processors: docker build -t limbeck . && docker run --rm -p 8000:8000 limbeck
# What follows the image's name goes to `limbeck serve`, like --max-length 2000.
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/limbeck \
 && /opt/limbeck/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin limbeck
COPY --from=build /opt/limbeck /opt/limbeck
ENV PATH=/opt/limbeck/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/limbeck
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["limbeck", "serve", "--host", "0.0.0.0", "--port", "8000"]
