"""Public datasets that policies are evaluated on."""

from research.prompts.datasets.description import Description, Fields
from research.prompts.extraction import Formula, WholeNumber

_AIME = "The problems are the Mathematical Association of America's."

EVALUATION = (
    Description(
        name="math_500",
        hub="HuggingFaceH4/MATH-500",
        splits={"test": 500},
        layouts=(
            Fields(question="problem", answer="answer", solution="solution"),
            Fields(question="problem", answer="answer"),
        ),
        template="boxed",
        verifier="mathematics",
        licence="MIT",
        source="Lightman et al. 2023 (arXiv:2305.20050), from MATH's test split",
    ),
    Description(
        name="aime_2024",
        hub="HuggingFaceH4/aime_2024",
        splits={"train": 30},
        layouts=(
            Fields(question="problem", answer="answer", solution="solution", extraction=WholeNumber()),
            Fields(question="problem", answer="answer", extraction=WholeNumber()),
        ),
        template="boxed",
        verifier="number",
        licence="not stated",
        source="AIME I and II 2024",
        note=_AIME,
    ),
    Description(
        name="aime_2024_dapo",
        hub="BytedTsinghua-SIA/AIME-2024",
        splits={"train": 960},
        layouts=(
            Fields(
                question="prompt.0.content",
                answer="reward_model.ground_truth",
                extraction=WholeNumber(),
            ),
        ),
        wrapped="dapo",
        template="dapo",
        verifier="answer line",
        licence="Apache-2.0",
        source="Yu et al. 2025 (arXiv:2503.14476)",
        note="AIME 2024, each of the 30 problems 32 times: with one completion each, accuracy is avg@32.",
    ),
    Description(
        name="aime_2025",
        hub="math-ai/aime25",
        splits={"test": 30},
        layouts=(
            Fields(question="problem", answer="answer", extraction=WholeNumber()),
            Fields(question="question", answer="answer", extraction=WholeNumber()),
        ),
        template="boxed",
        verifier="number",
        licence="Apache-2.0",
        source="AIME I and II 2025",
        note=_AIME,
    ),
    Description(
        name="amc_2023",
        hub="AI-MO/aimo-validation-amc",
        splits={"train": 83},
        layouts=(
            Fields(question="problem", answer="answer", extraction=WholeNumber()),
            Fields(question="question", answer="answer", extraction=WholeNumber()),
        ),
        template="boxed",
        verifier="number",
        licence="Apache-2.0",
        source="AMC 12 of 2022 and 2023, whose choices are rewritten to ask for an integer",
        note=f"Answers are stored as 142.0. {_AIME}",
    ),
    Description(
        name="minerva_math",
        hub="math-ai/minervamath",
        splits={"test": 272},
        layouts=(
            Fields(question="question", answer="answer", extraction=Formula()),
            Fields(question="problem", answer="answer", extraction=Formula()),
        ),
        template="boxed",
        verifier="mathematics",
        licence="not stated",
        source="Lewkowycz et al. 2022 (arXiv:2206.14858), OCWCourses",
        note="Undergraduate science: some answers are decimals rounded as the question says, without their unit.",
    ),
    Description(
        name="olympiad_bench",
        hub="Hothan/OlympiadBench",
        config="OE_TO_maths_en_COMP",
        splits={"train": 674},
        layouts=(
            Fields(
                question="question",
                answer="final_answer.0",
                solution="solution.0",
                context="context",
                extraction=Formula(),
            ),
            Fields(question="question", answer="final_answer.0", extraction=Formula()),
        ),
        template="boxed",
        verifier="mathematics",
        licence="Apache-2.0",
        source="He et al. 2024 (arXiv:2402.14008)",
        note="Open-ended competition mathematics in English without pictures. Where `is_multiple_answer` is true, the "
        "answers are one text, separated by commas. The unit is a field of its own and no part of the answer.",
    ),
    Description(
        name="mgsm_zh",
        hub="juletxara/mgsm",
        config="zh",
        revision="refs/convert/parquet",
        files="{config}/{split}/0000.parquet",
        splits={"test": 250},
        layouts=(
            Fields(question="question", answer="answer_number"),
            Fields(question="messages.0.content", answer="answer"),
        ),
        template="boxed_zh",
        verifier="number",
        licence="CC-BY-SA-4.0",
        source="Shi et al. 2022 (arXiv:2210.03057)",
        note="250 test problems of GSM8K in Chinese.",
    ),
    Description(
        name="cmath",
        hub="weitianwen/cmath",
        splits={"test": 1098, "validation": 600},
        layouts=(Fields(question="question", answer="golden"),),
        template="boxed_zh",
        verifier="number",
        licence="CC-BY-4.0",
        source="Wei et al. 2023 (arXiv:2306.16636)",
        note="Chinese primary school, `grade` 1 to 6. Some answers are fractions, 1/5.",
    ),
)
