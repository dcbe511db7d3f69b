"""A tiny picture in each format, to try the decoders with; and what it shows.

Written once by Pillow 13.0 and, as HEIC, by pillow-heif 1.8.
"""

import base64

RED, BLUE = (208, 48, 48), (48, 48, 208)
"""The colours of the left and the right half of 16 x 16 pixels, RGB."""

TOLERANCE = 24
"""The most by which a decoded value differs from these: most of the formats lose something."""

_IN_BASE_85 = {
    "jpeg": """
        |JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%
        5fc;@6%`B*7Z?^47!ni}6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`
        6ciK`6ciK`6ciK`6cqo!01*fP5C9MZ0U`hb5di}c0sq7R6aWDL000000000000000000O7!~hf!0RR910000000000
        000000RO}Q6afJM000000000000000000O7!~hu)00IL600000000000000000%^a!o&aC01N{G00I#M5dc2`Di@Rm
        <aG4<x(h8xR$%|x
        """,
    "png": """
        iBL{Q4GJ0x0000DNk~Le0000G0000G2m$~A0FaSrHUIzsA4x<(RCwBBykKC!fDI%tEWj$x#6Th#)iA1I=x6`{%W48p
        >;J>N00000NkvXXu0mjf
        """,
    "webp": """
        Qb|TeKmY&$S4BclR!}$~GynhqkO2Ul0V)sx5C8zc5+$Glbh-com;nCySU>+I9KZBo|MsPy_+kI;OF#XoWyAm4mOG#T
        """,
    "tiff": """
        Nl7XIZU6uPfHVdJ2ow?r1%yH2P&hO;6Ap#6A@MkjE-Mg>LL!lvyk0jGkH@0X$s}q;C5B2QvKdsKSrV5?<}$gQZfhQw
        %%xHJ%#v>zp3SFoiTpl`5unFtbP7B+n<k~vsx*pxrjrhUfB*^r009F40RR915C8xG0RaO50RR915C8xG0s#X60{{R3
        >;M1&0|5g70RR911poj51_1*A0RR910ssI25dj1M0RR912mk;86#)YP0RR910{{R376AhQ0RR915C8xG7XbtS0RR91
        WdHyG903CW0RR910RR91000002mlBG2mk
        """,
    "gif": """
        M@dFFH(?L}5CDMy0MIZnFfh;n0000004x9i000mG5CA|3HUI$#94Ih=!Gi_~5=4kl;XsB59TtQbKq3H&6(wS{xKSfT
        jvqZj1UXV9Ly{*=HdGmrrNMvzI{
        """,
    "bmp": """
        LQOsa00000002G!001Ze000mG000mG000312mk;800001006`e006`e0006200062001yB&;ZadFaQ7m0000000032
        0RaI40RaF200000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF2
        00000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF20000000032
        0RaI40RaF200000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF200000000320RaI40RaF2
        00000000320RaI40RaF200000000320RaI40Ra
        """,
    "heic": """
        0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004eZDn*}000000000XXk=`10000000000aA{+7000000000000000
        00000B57=IV*mgE07O6l0RRC200001pa1~?00000005H!001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn
        01j|zbZr0t000010002|X>f9I0002oX>en20001WXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU
        00093kN^M!000939=ZZRVE_RDDMA4O18@KU0|1Z!00RI30{|YNAb|yz>aLpR;31&EfB*mtfB*mk0EA)y0RRR>0l{;@
        i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000G000010000G00001|NsBc00002
        |NsBc000020000GaA|mH000000|*ER0000OX>e^}0000000001009Mo0s{qv0001+ZDe6|0001wC;_hqG8*ZMfL%j~
        o6<l3{yIL(*hUi7;LPcLqfh_YlGOetvNQ#i?J<0nU%pCH<7@r@=}I4<s2H?d8j<|wPTdd#sN(?uBJYz15WkLW+BNj0
        =#|ZiZHZV!AR=gJf0W!;6C({iq;j8v;r-i>&9lCO8*<v{W*xt5qU)zX%^+zQW_sC&qio$U>60S
        """,
    "avif": """
        0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh20002%ZDn*}000000000XXk=`10000000000aA{+70000000000
        00000000004sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951JDF6TfC~0YKW&i*H00031000_kZf0cy
        000000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG000005C8xG5C8xG5O8UDX#fBK00RgJ2mk;8
        3}JRLLxBJc000006Ju{|a&BX6cmM$a4FCp!0000NX>e^}0000000001009I60)qqq001#<WMOm?0162h4FB37A)wHJ
        G8#mI{r##yAc7B&03f1E?p}0h?c3i3n<H6X
        """,
}

SAMPLES: dict[str, bytes] = {
    **{name: base64.b85decode("".join(text.split())) for name, text in _IN_BASE_85.items()},
    "pnm": b"P6 16 16 255\n" + (bytes(RED) * 8 + bytes(BLUE) * 8) * 16,
}
"""The file of each format, by the name that `corpus/formats.py` has for it."""
