# Each target makes its environment first, .venv, which takes no time where nothing changed.
python := .venv/bin/python

.PHONY: book pdf test lint clean

book: # the chapters that are not fresh, then the site
	@tools/environment book
	$(python) -m maso book
	@echo "One chapter: $(python) -m maso run 05 --profile quick"

pdf: # the whole book on paper, _build/maso.pdf; the notebooks' code stays folded
	@tools/environment test
	$(python) -m maso book
	.venv/bin/jupyter-book build book --builder singlehtml --all -q --path-output _build/pdf
	$(python) tools/chromium.py >/dev/null
	$(python) tools/pdf.py _build/pdf/_build/singlehtml/index.html _build/maso.pdf
	@echo "The book is printed: _build/maso.pdf"

# Two processes or more share the tests, each on one thread; those of one file mostly stay together.
side_by_side := -n logical --maxprocesses 4 --dist worksteal

test: lint # everything that is checked; the browser tests need the site
	$(python) -m maso book
	chromium=$$($(python) tools/chromium.py) && MASO_CHROMIUM="$$chromium" OMP_NUM_THREADS=1 $(python) -m pytest $(side_by_side)

lint:
	@tools/environment test
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	$(python) -m nbstripout --verify --keep-id notebooks/*.ipynb src/maso_book/template/notebook.ipynb
	.venv/bin/oxlint --deny-warnings src book/_static

clean: # what can be made again; the environment and the records stay
	rm -rf _build book/chapters book/generated .snakemake .mypy_cache .ruff_cache .hypothesis
	find results -name '*.tmp' -delete
