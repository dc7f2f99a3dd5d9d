# One image for every role: `voltfold api`, `voltfold worker`, `voltfold sink`, `voltfold migrate`.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r requirements.lock

COPY pyproject.toml LICENSE ./
COPY schemas schemas
COPY streams streams
COPY analytics analytics
COPY api api
COPY voltfold voltfold
RUN pip install --no-cache-dir --no-deps --no-build-isolation --no-index . \
    && useradd --create-home --uid 10001 voltfold \
    && install -d -o voltfold /data

USER voltfold
ENV VOLTFOLD_DATA=/data VOLTFOLD_LOG=json
VOLUME /data
ENTRYPOINT ["voltfold"]
CMD ["--help"]
