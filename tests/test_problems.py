from segpipe.data.source.problems import LINES_SHOWN, Findings, Problem, listing, short, some_ids


def missing(number: int, file: str = "train.json") -> Problem:
    return Problem(file, f"image {number}", f"file_name 'img_{number}.jpg' does not exist", "a file")


def test_a_problem_reads_as_one_sentence():
    problem = Problem("train.json", "annotation 17", "category_id is 9.", "one of [1, 2]")
    assert str(problem) == "train.json: annotation 17: category_id is 9; expected one of [1, 2]."
    assert (
        str(Problem("train.json", "", "the file is empty", "JSON")) == "train.json: the file is empty; expected JSON."
    )


def test_up_to_50_problems_are_all_listed_those_of_a_kind_together():
    other = Problem("train.json", "annotation 3", "'iscrowd' is 2", "0 or 1")
    problems = [*map(missing, range(30)), other, *map(missing, range(30, LINES_SHOWN - 1))]
    lines = list(listing(problems))
    assert lines == [f"  {problem}" for problem in [*problems[:30], *problems[31:], other]]


def test_of_more_problems_each_kind_gets_its_share_of_lines_and_a_count_of_the_rest():
    problems = [*map(missing, range(1000)), *(missing(i, "val.json") for i in range(3)), "split.folds: found 2"]
    lines = list(listing(problems))
    share = LINES_SHOWN // 3
    assert lines[:share] == [f"  {problem}" for problem in problems[:share]]
    assert lines[share] == f"    and {1000 - share} more like that: image 16, image 17, image 18, ..."
    assert lines[share + 1 :] == [f"  {problem}" for problem in problems[1000:]]


def test_however_many_kinds_there_are_each_is_shown():
    problems = [Problem(f"{name}.json", "image 1", "'id' is missing", "an id") for name in map(str, range(80))]
    assert len(list(listing(problems * 2))) == 2 * 80


def test_broken_entries_stop_unless_they_may_be_skipped_and_blocking_mistakes_always():
    assert not Findings().stop("stop")
    assert Findings(broken=[missing(1)]).stop("stop") and not Findings(broken=[missing(1)]).stop("skip")
    assert Findings(blocking=["split.folds: found 2"]).stop("skip")


def test_the_way_out_by_skipping_is_shown_only_where_it_leads_out():
    assert "data.on_problem to skip" in str(Findings(broken=[missing(1)]).error("raw", "stop"))
    assert "data.on_problem" not in str(Findings([missing(1)], ["split.folds: found 2"]).error("raw", "stop"))


def test_long_values_are_cut():
    assert max(len(short(value)) for value in ("1 " * 10_000, [[1.5] * 999] * 999, 10**4000, {"a": "b" * 999})) <= 203


def test_some_of_many_names_are_shown_as_a_terminal_may_show_them():
    assert some_ids(["a", "\x1b[31m", "c"], 2) == "a, '\\x1b[31m', ..." and some_ids(["a", "c"], 2) == "a, c"
