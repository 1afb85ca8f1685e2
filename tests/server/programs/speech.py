import pathlib

from openai import OpenAI

client = OpenAI(
    base_url="http://localhost:8080/v1",
    api_key="not-needed",
)

# --- Basic synthesis (returns WAV bytes) ---
response = client.audio.speech.create(
    model="Qwen3-TTS",
    voice="Chelsie",
    input="今天天气真好，我们去公园吧！",
    extra_body={"language": "chinese"},
)
response.stream_to_file("output.wav")

# --- English ---
response = client.audio.speech.create(
    model="Qwen3-TTS",
    voice="Ethan",
    input="Hello, this is a test of the Crane TTS engine.",
    extra_body={"language": "english", "temperature": 0.7},
)
response.stream_to_file("english.wav")

# --- Access raw bytes directly ---
wav_bytes = client.audio.speech.create(
    model="Qwen3-TTS",
    voice="Chelsie",
    input="Hello world!",
    extra_body={"language": "english"},
).content  # bytes
pathlib.Path("hello.wav").write_bytes(wav_bytes)
