"""What a model is given to read, from the JSON of a request."""

from typing import Any

from metering.core.texts.rows import CompiledRows, Kind, Row, Texts

_STRINGS = {"instructions": "system", "input": "user"}  # a message each, in OpenAI's responses
_ROLES = ("messages", "input", "contents", "chat_history")

ROWS = (
    # messages: OpenAI, Anthropic, Ollama, Cohere v2, Bedrock's Converse
    Row(Kind.TEXT, "messages[].content"),
    Row(Kind.TEXT, "messages[].content[].text"),
    Row(Kind.TEXT, "messages[].content[].thinking"),
    Row(Kind.TEXT, "messages[].name"),
    Row(Kind.CALL, "messages[].content[].name"),
    Row(Kind.ARGUMENTS, "messages[].content[].input"),
    Row(Kind.RESULT, "messages[].content[].content"),
    Row(Kind.CALL, "messages[].content[].toolUse.name"),
    Row(Kind.ARGUMENTS, "messages[].content[].toolUse.input"),
    Row(Kind.RESULT, "messages[].content[].toolResult.content[].text|json"),
    Row(Kind.CALL, "messages[].tool_calls[].function.name"),
    Row(Kind.ARGUMENTS, "messages[].tool_calls[].function.arguments"),
    Row(Kind.CALL, "messages[].function_call.name"),
    Row(Kind.ARGUMENTS, "messages[].function_call.arguments"),
    Row(Kind.IMAGE, "messages[].content[].image_url"),
    Row(Kind.IMAGE, "messages[].content[].image.source"),
    Row(Kind.IMAGE, "messages[].images[]"),
    Row(Kind.AUDIO, "messages[].content[].input_audio"),
    Row(Kind.DOCUMENT, "messages[].content[].file|document|video_url|video"),
    Row(Kind.DOCUMENT, "messages[].content[type=document]"),
    Row(Kind.DOCUMENT, "messages[].audio"),  # an answer of before, by its id
    Row(Kind.IMAGE, "messages[].content[type=image].source"),
    # what stands beside them
    Row(Kind.TEXT, "system"),
    Row(Kind.TEXT, "system[].text"),
    Row(Kind.TEXT, "instructions"),
    Row(Kind.TEXT, "preamble|message"),
    Row(Kind.TEXT, "chat_history[].message"),
    Row(Kind.TOOL, "tools[]"),
    Row(Kind.TOOL, "functions[]"),
    Row(Kind.TOOL, "toolConfig.tools[].toolSpec"),
    Row(Kind.SCHEMA, "response_format.json_schema.schema"),
    Row(Kind.SCHEMA, "text.format.schema"),
    Row(Kind.SCHEMA, "format"),
    Row(Kind.SCHEMA, "generationConfig|generation_config.responseSchema|responseJsonSchema"),
    # prompts
    Row(Kind.TEXT, "prompt"),
    Row(Kind.TEXT, "prompt[]"),
    Row(Kind.TEXT, "prompt[].data"),
    Row(Kind.IDS, "prompt"),
    Row(Kind.TEXT, "inputText"),
    Row(Kind.TEXT, "inputs"),
    Row(Kind.TEXT, "inputs[]"),
    Row(Kind.IMAGE, "images[]"),
    # OpenAI responses, embeddings of all kinds, rerankers
    Row(Kind.TEXT, "input"),
    Row(Kind.TEXT, "input[]"),
    Row(Kind.IDS, "input"),
    Row(Kind.TEXT, "input[].content"),
    Row(Kind.TEXT, "input[].content[].text"),
    Row(Kind.TEXT, "input[].text"),
    Row(Kind.CALL, "input[].name"),
    Row(Kind.ARGUMENTS, "input[].arguments|input"),
    Row(Kind.RESULT, "input[].output"),
    Row(Kind.IMAGE, "input[].content[].image_url"),
    Row(Kind.AUDIO, "input[].content[].input_audio"),
    Row(Kind.DOCUMENT, "input[].content[type=input_file]"),
    Row(Kind.DOCUMENT, "input[type=item_reference]"),
    Row(Kind.TEXT, "texts[]"),
    Row(Kind.TEXT, "query"),
    Row(Kind.TEXT, "documents[]"),
    Row(Kind.TEXT, "documents[].text"),
    # Gemini
    Row(Kind.TEXT, "contents[].parts[].text"),
    Row(Kind.TEXT, "content.parts[].text"),
    Row(Kind.TEXT, "requests[].content.parts[].text"),
    Row(Kind.TEXT, "instances[].content"),
    Row(Kind.TEXT, "systemInstruction|system_instruction.parts[].text"),
    Row(Kind.CALL, "contents[].parts[].functionCall.name"),
    Row(Kind.ARGUMENTS, "contents[].parts[].functionCall.args"),
    Row(Kind.RESULT, "contents[].parts[].functionResponse.response"),
    Row(Kind.IMAGE, "contents[].parts[].inlineData|inline_data"),
    Row(Kind.DOCUMENT, "contents[].parts[].fileData|file_data"),
    # what the provider keeps, and we never saw
    Row(Kind.DOCUMENT, "previous_response_id|conversation|cachedContent|cached_content|preset|variables"),
    Row(Kind.DOCUMENT, "prompt.id"),
    Row(Kind.DOCUMENT, "prompt_id"),
    Row(Kind.IDS, "context"),
)
_ROWS = CompiledRows(ROWS)


def read_texts(request: Any, *, responses: bool = False) -> Texts:
    """What a request of this JSON value, in the responses dialect or another, gives the model to read."""
    found = Texts()
    _ROWS.take(request, found)
    found.values[Kind.IDS] = [ids for ids in found.values.get(Kind.IDS, []) if _are_ids(ids)]
    if isinstance(request, dict):
        if responses:
            found.roles += [role for name, role in _STRINGS.items() if isinstance(request.get(name), str)]
        for name in _ROLES:
            items = request.get(name)
            if isinstance(items, list):
                found.roles += [str(item.get("role") or item.get("type")) for item in items if isinstance(item, dict)]
    found.messages = len(found.roles)
    return found


def _are_ids(value: Any) -> bool:
    """Whether it is a list of token ids, or of such lists."""
    if not isinstance(value, list) or not value:
        return False
    return all(type(item) is int for item in value) or all(_are_ids(item) for item in value)
