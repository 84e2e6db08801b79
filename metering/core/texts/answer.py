"""What a model wrote, from the JSON texts of its answer."""

from collections.abc import Iterable
from typing import Any

from metering.core.texts.rows import UNTYPED, CompiledRows, Kind, Row, Texts

ROWS = (
    # OpenAI chat and completions, and all that speak it: documents have `message`, streams `delta`, or both
    Row(Kind.TEXT, "choices[].delta|message.content"),
    Row(Kind.TEXT, "choices[].delta|message.content[].text"),
    Row(Kind.TEXT, "choices[].delta|message.refusal"),
    Row(Kind.TEXT, "choices[!delta].text"),
    # two names for one text in one answer (vLLM, OpenRouter): the first that says something
    Row(Kind.REASONING, "choices[].delta|message.reasoning_content|reasoning"),
    Row(Kind.REASONING, "choices[].delta|message[!reasoning][!reasoning_content].reasoning_details[].text"),
    Row(Kind.REASONING, "choices[].delta|message.content[].thinking[].text"),  # Mistral
    Row(Kind.REASONING, "choices[].delta|message.content[].summary[].text"),  # Databricks
    Row(Kind.CALL, "choices[].delta|message.tool_calls[].function.name"),
    Row(Kind.ARGUMENTS, "choices[].delta|message.tool_calls[].function.arguments"),
    Row(Kind.CALL, "choices[].delta|message.tool_calls[].custom.name"),
    Row(Kind.ARGUMENTS, "choices[].delta|message.tool_calls[].custom.input"),
    Row(Kind.CALL, "choices[].delta|message.function_call.name"),
    Row(Kind.ARGUMENTS, "choices[].delta|message.function_call.arguments"),
    # OpenAI responses: a document has its items, a stream tells each text in pieces, whole, and whole again
    Row(Kind.TEXT, "output[!type=reasoning].content[].text"),
    Row(Kind.REASONING, "output[type=reasoning].content[].text"),
    Row(Kind.TEXT, "output[].content[].refusal"),
    Row(Kind.SUMMARY, "output[].summary[].text"),
    Row(Kind.CALL, "output[].name"),
    Row(Kind.ARGUMENTS, "output[].arguments|input|code"),
    Row(Kind.TEXT, "delta", event="response.output_text.delta"),
    Row(Kind.TEXT, "delta", event="response.refusal.delta"),
    Row(Kind.REASONING, "delta", event="response.reasoning_text.delta"),
    Row(Kind.SUMMARY, "delta", event="response.reasoning_summary_text.delta"),
    Row(Kind.CALL, "item.name", event="response.output_item.added"),
    Row(Kind.ARGUMENTS, "delta", event="response.function_call_arguments.delta"),
    Row(Kind.ARGUMENTS, "delta", event="response.custom_tool_call_input.delta"),
    Row(Kind.ARGUMENTS, "delta", event="response.mcp_call_arguments.delta"),
    Row(Kind.ARGUMENTS, "delta", event="response.code_interpreter_call_code.delta"),
    # Anthropic: messages, also on Bedrock and Vertex; the old completions
    Row(Kind.TEXT, "content[].text"),
    Row(Kind.REASONING, "content[].thinking"),
    Row(Kind.CALL, "content[].name"),
    Row(Kind.ARGUMENTS, "content[].input"),
    Row(Kind.TEXT, "delta.text"),  # and Bedrock's Converse
    Row(Kind.REASONING, "delta.thinking"),
    Row(Kind.ARGUMENTS, "delta.partial_json"),
    Row(Kind.CALL, "content_block.name"),
    Row(Kind.TEXT, "completion"),
    # Gemini; interactions
    Row(Kind.TEXT, "candidates[].content.parts[!thought].text"),
    Row(Kind.SUMMARY, "candidates[].content.parts[thought].text"),
    Row(Kind.CALL, "candidates[].content.parts[].functionCall.name"),
    Row(Kind.ARGUMENTS, "candidates[].content.parts[].functionCall.args"),
    Row(Kind.ARGUMENTS, "candidates[].content.parts[].executableCode.code"),
    Row(Kind.TEXT, "outputs|steps[].text"),
    Row(Kind.TEXT, "outputs|steps[].content[].text"),
    # Bedrock: Converse, Titan, Llama, Mistral
    Row(Kind.TEXT, "output.message.content[].text"),
    Row(Kind.TEXT, "output.message.content[].citationsContent.content[].text"),
    Row(Kind.REASONING, "output.message.content[].reasoningContent.reasoningText.text"),
    Row(Kind.CALL, "output.message.content[].toolUse.name"),
    Row(Kind.ARGUMENTS, "output.message.content[].toolUse.input"),
    Row(Kind.REASONING, "delta.reasoningContent.text"),
    Row(Kind.CALL, "start.toolUse.name"),
    Row(Kind.ARGUMENTS, "delta.toolUse.input"),
    Row(Kind.TEXT, "results[].outputText"),
    Row(Kind.TEXT, "outputText"),
    Row(Kind.TEXT, "generation"),
    Row(Kind.TEXT, "outputs[].text"),
    Row(Kind.TEXT, "contentBlockDelta.delta.text"),  # Nova's InvokeModel names each event
    Row(Kind.CALL, "contentBlockStart.start.toolUse.name"),
    Row(Kind.ARGUMENTS, "contentBlockDelta.delta.toolUse.input"),
    # Ollama
    Row(Kind.TEXT, "message.content"),
    Row(Kind.REASONING, "message.thinking"),
    Row(Kind.CALL, "message.tool_calls[].function.name"),
    Row(Kind.ARGUMENTS, "message.tool_calls[].function.arguments"),
    Row(Kind.TEXT, "response"),
    Row(Kind.REASONING, "thinking"),
    # Cohere v2, v1
    Row(Kind.TEXT, "message.content[].text"),
    Row(Kind.REASONING, "message.content[].thinking"),
    Row(Kind.TEXT, "message.tool_plan"),
    Row(Kind.TEXT, "delta.message.content.text"),
    Row(Kind.REASONING, "delta.message.content.thinking"),
    Row(Kind.TEXT, "delta.message.tool_plan"),
    Row(Kind.CALL, "delta.message.tool_calls.function.name"),
    Row(Kind.ARGUMENTS, "delta.message.tool_calls.function.arguments"),
    Row(Kind.TEXT, "text", event=UNTYPED),
    Row(Kind.TEXT, "generations[].text"),
    # others: watsonx, Text Generation Inference, aleph-alpha
    Row(Kind.TEXT, "results[].generated_text"),
    Row(Kind.TEXT, "generated_text"),
    Row(Kind.TEXT, "token.text"),
    Row(Kind.TEXT, "completions[].completion"),
)
_ROWS = CompiledRows(ROWS)


def written_texts(values: Iterable[Any]) -> Texts:
    """What the model wrote in an answer of these JSON values: one document, or the frames of a stream."""
    found = Texts()
    for value in values:
        _ROWS.take(value, found)
    return found
