# The service in a container. The model is not in it: mount its folder at /model, read-only.
#
#   docker build -t albert_zh .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/albert_lcqmc_checkpoints:/model:ro" \
#       -e ALBERT_ZH_TOKEN albert_zh
#
# Further flags of serve.py go to the end of the command, but for --port: choose another one with -p.
# A token belongs into the environment or a mounted file (--token_file), never into the image.

FROM python:3.11.14-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /service

# What core.txt has for training and for making data stays out.
COPY requirements/core.txt requirements/cpu.txt requirements/serve.txt requirements/constraints-tf2.txt requirements/
RUN grep -vE '^(jieba|matplotlib|rjieba)==' requirements/core.txt > requirements/needed.txt && \
    pip install -c requirements/constraints-tf2.txt -r requirements/needed.txt \
        -r requirements/cpu.txt -r requirements/serve.txt && \
    useradd --system --no-create-home --shell /usr/sbin/nologin albert

COPY LICENSE NOTICE args.py batching.py checkpoints.py choices.py console.py distribution.py errors.py features.py files.py heads.py inference.py interruption.py lamb_optimizer.py layouts.py modeling.py modeling_google.py optimization.py random_draws.py records.py request_batching.py runtime.py selection.py serve.py service.py service_api.py service_connections.py similarity.py tasks.py tokenization.py ./
COPY web web/

USER albert
VOLUME /model
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=4)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "serve.py", "--model_dir=/model", "--host=0.0.0.0"]
