"""Turn the keys of what was used into a list of references and a BibTeX file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One publication.

    Parameters
    ----------
    key : str
        BibTeX key and anchor on the page.
    short : str
        As it is cited in a sentence: "Dupré la Tour et al., 2022".
    authors, title, venue : str
    year : int
    link : str
        Where it can be read; shown as a link, never loaded.
    """

    key: str
    short: str
    authors: str
    year: int
    title: str
    venue: str
    link: str

    def to_bibtex(self) -> str:
        """Return one BibTeX entry."""
        fields = {
            "author": self.authors.replace(", and ", " and ").replace("; ", " and "),
            "title": f"{{{self.title}}}",
            "journal": self.venue,
            "year": str(self.year),
            "url": self.link,
        }
        fields = {name: value if name == "url" else value.replace("&", r"\&") for name, value in fields.items()}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@article{{{self.key},\n{lines}\n}}\n"


# What the program's own methods rest on; systems bring their own citations.
REFERENCES = {
    r.key: r
    for r in (
        Reference(
            "dupre2022",
            "Dupré la Tour et al., 2022",
            "Dupré la Tour, T.; Eickenberg, M.; Nunez-Elizalde, A. O.; Gallant, J. L.",
            2022,
            "Feature-space selection with banded ridge regression",
            "NeuroImage 264, 119728",
            "https://doi.org/10.1016/j.neuroimage.2022.119728",
        ),
        Reference(
            "nunez2019",
            "Nunez-Elizalde et al., 2019",
            "Nunez-Elizalde, A. O.; Huth, A. G.; Gallant, J. L.",
            2019,
            "Voxelwise encoding models with non-spherical multivariate normal priors",
            "NeuroImage 197, 482–492",
            "https://doi.org/10.1016/j.neuroimage.2019.04.012",
        ),
        Reference(
            "friston1998",
            "Friston et al., 1998",
            "Friston, K. J.; Fletcher, P.; Josephs, O.; Holmes, A.; Rugg, M. D.; Turner, R.",
            1998,
            "Event-related fMRI: characterizing differential responses",
            "NeuroImage 7(1), 30–40",
            "https://doi.org/10.1006/nimg.1997.0306",
        ),
        Reference(
            "glover1999",
            "Glover, 1999",
            "Glover, G. H.",
            1999,
            "Deconvolution of impulse response in event-related BOLD fMRI",
            "NeuroImage 9(4), 416–429",
            "https://doi.org/10.1006/nimg.1998.0419",
        ),
        Reference(
            "deheer2017",
            "de Heer et al., 2017",
            "de Heer, W. A.; Huth, A. G.; Griffiths, T. L.; Gallant, J. L.; Theunissen, F. E.",
            2017,
            "The hierarchical cortical organization of human speech processing",
            "Journal of Neuroscience 37, 6539–6557",
            "https://doi.org/10.1523/JNEUROSCI.3267-16.2017",
        ),
        Reference(
            "groemping2007",
            "Grömping, 2007",
            "Grömping, U.",
            2007,
            "Estimators of relative importance in linear regression based on variance decomposition",
            "The American Statistician 61, 139–147",
            "https://doi.org/10.1198/000313007X188252",
        ),
        Reference(
            "lescroart2015",
            "Lescroart et al., 2015",
            "Lescroart, M. D.; Stansbury, D. E.; Gallant, J. L.",
            2015,
            "Fourier power, subjective distance, and object categories all provide plausible models of BOLD responses "
            "in scene-selective visual areas",
            "Frontiers in Computational Neuroscience 9, 135",
            "https://doi.org/10.3389/fncom.2015.00135",
        ),
        Reference(
            "freedman1983",
            "Freedman & Lane, 1983",
            "Freedman, D.; Lane, D.",
            1983,
            "A nonstochastic interpretation of reported significance levels",
            "Journal of Business & Economic Statistics 1, 292–298",
            "https://doi.org/10.1080/07350015.1983.10509354",
        ),
        Reference(
            "winkler2014",
            "Winkler et al., 2014",
            "Winkler, A. M.; Ridgway, G. R.; Webster, M. A.; Smith, S. M.; Nichols, T. E.",
            2014,
            "Permutation inference for the general linear model",
            "NeuroImage 92, 381–397",
            "https://doi.org/10.1016/j.neuroimage.2014.01.060",
        ),
        Reference(
            "phipson2010",
            "Phipson & Smyth, 2010",
            "Phipson, B.; Smyth, G. K.",
            2010,
            "Permutation P-values should never be zero: calculating exact P-values when permutations are randomly "
            "drawn",
            "Statistical Applications in Genetics and Molecular Biology 9, 39",
            "https://doi.org/10.2202/1544-6115.1585",
        ),
        Reference(
            "benjamini1995",
            "Benjamini & Hochberg, 1995",
            "Benjamini, Y.; Hochberg, Y.",
            1995,
            "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
            "Journal of the Royal Statistical Society B 57, 289–300",
            "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",
        ),
        Reference(
            "benjamini2001",
            "Benjamini & Yekutieli, 2001",
            "Benjamini, Y.; Yekutieli, D.",
            2001,
            "The control of the false discovery rate in multiple testing under dependency",
            "The Annals of Statistics 29, 1165–1188",
            "https://doi.org/10.1214/aos/1013699998",
        ),
        Reference(
            "clark1973",
            "Clark, 1973",
            "Clark, H. H.",
            1973,
            "The language-as-fixed-effect fallacy: a critique of language statistics in psychological research",
            "Journal of Verbal Learning and Verbal Behavior 12, 335–359",
            "https://doi.org/10.1016/S0022-5371(73)80014-3",
        ),
        Reference(
            "nadeau2003",
            "Nadeau & Bengio, 2003",
            "Nadeau, C.; Bengio, Y.",
            2003,
            "Inference for the generalization error",
            "Machine Learning 52, 239–281",
            "https://doi.org/10.1023/A:1024068626366",
        ),
        Reference(
            "schuett2023",
            "Schütt et al., 2023",
            "Schütt, H. H.; Kipnis, A. D.; Diedrichsen, J.; Kriegeskorte, N.",
            2023,
            "Statistical inference on representational geometries",
            "eLife 12, e82566",
            "https://doi.org/10.7554/eLife.82566",
        ),
        Reference(
            "holm1979",
            "Holm, 1979",
            "Holm, S.",
            1979,
            "A simple sequentially rejective multiple test procedure",
            "Scandinavian Journal of Statistics 6, 65–70",
            "https://www.jstor.org/stable/4615733",
        ),
        Reference(
            "nichols2002",
            "Nichols & Holmes, 2002",
            "Nichols, T. E.; Holmes, A. P.",
            2002,
            "Nonparametric permutation tests for functional neuroimaging: a primer with examples",
            "Human Brain Mapping 15, 1–25",
            "https://doi.org/10.1002/hbm.1058",
        ),
        Reference(
            "torgerson1952",
            "Torgerson, 1952",
            "Torgerson, W. S.",
            1952,
            "Multidimensional scaling: I. Theory and method",
            "Psychometrika 17, 401–419",
            "https://doi.org/10.1007/BF02288916",
        ),
        Reference(
            "efron1979",
            "Efron, 1979",
            "Efron, B.",
            1979,
            "Bootstrap methods: another look at the jackknife",
            "The Annals of Statistics 7, 1–26",
            "https://doi.org/10.1214/aos/1176344552",
        ),
        Reference(
            "kriegeskorte2008",
            "Kriegeskorte et al., 2008",
            "Kriegeskorte, N.; Mur, M.; Bandettini, P.",
            2008,
            "Representational similarity analysis: connecting the branches of systems neuroscience",
            "Frontiers in Systems Neuroscience 2, 4",
            "https://doi.org/10.3389/neuro.06.004.2008",
        ),
        Reference(
            "nili2014",
            "Nili et al., 2014",
            "Nili, H.; Wingfield, C.; Walther, A.; Su, L.; Marslen-Wilson, W.; Kriegeskorte, N.",
            2014,
            "A toolbox for representational similarity analysis",
            "PLoS Computational Biology 10, e1003553",
            "https://doi.org/10.1371/journal.pcbi.1003553",
        ),
        Reference(
            "lex2014",
            "Lex et al., 2014",
            "Lex, A.; Gehlenborg, N.; Strobelt, H.; Vuillemot, R.; Pfister, H.",
            2014,
            "UpSet: visualization of intersecting sets",
            "IEEE Transactions on Visualization and Computer Graphics 20, 1983–1992",
            "https://doi.org/10.1109/TVCG.2014.2346248",
        ),
    )
}


def cite(*keys: str) -> str:
    """Return "(A, 2020; B, 2021)" for keys of `REFERENCES`."""
    return "(" + "; ".join(REFERENCES[key].short for key in keys) + ")"


def find_link(citation: str) -> str | None:
    """Return the DOI or arXiv link that a free-text citation names, if it names one."""
    doi = re.search(r"\b10\.\d{4,9}/[^\s,;)\]]+", citation)
    if doi:
        return "https://doi.org/" + doi.group().rstrip(".")
    arxiv = re.search(r"arXiv:\s*(\d{4}\.\d{4,5})", citation, re.IGNORECASE)
    return f"https://arxiv.org/abs/{arxiv.group(1)}" if arxiv else None


def to_bibtex(references: Iterable[Reference], citations: Iterable[str]) -> str:
    """Return a BibTeX file of references, and of the systems' own citations as notes."""
    entries = [r.to_bibtex() for r in references]
    entries += [f"@misc{{system{i},\n  note = {{{text}}}\n}}\n" for i, text in enumerate(citations, start=1)]
    return "\n".join(entries)
